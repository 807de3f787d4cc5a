"""``kexecdbg demo``: the freeze of 2019, predicted, seen, explained and repaired."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.new_kernel import ARRIVED
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.session.gdb import CommandResult, GdbSession
from kexecdbg.ui.style import Style, style_for

SUMMARY = (
    "Run the MMU-enabled kexec relocation of 2019 in QEMU: stop before the msr that freezes the machine, name the "
    "cause, watch it happen, repair it live, and let the relocation finish."
)

_SCENARIO = "A"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 only if prediction and observation agree and the new kernel arrived whole."""
    style = style_for(sys.stdout)
    started = time.monotonic()

    def show(text: str) -> None:
        if not arguments.json:
            print(text, flush=True)

    (scenario,) = find_scenarios([_SCENARIO])
    with boot(scenario.guest.build()) as machine, GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        gdb.load_symbols(machine.symbol_file)
        if style.colour and not arguments.json:
            gdb.command("set style enabled on")
        document = _play(machine, gdb, show, style)
    document["seconds"] = round(time.monotonic() - started, 1)
    success = document["agrees"] and document["arrived"]
    if arguments.json:
        print(json.dumps(document, indent=1))
    else:
        print(_summary(document, style))
    return 0 if success else 1


def _play(machine: LabMachine[LabGuest], gdb: GdbSession, show: Callable[[str], None], style: Style) -> dict[str, Any]:
    def step(number: int, heading: str, line: str) -> CommandResult:
        result = gdb.run(line)
        show(f"{style.bold(f'{number}. {heading}')}\n(gdb) {line}\n{result.text}\n")
        return result

    show(
        "The MMU-enabled kexec relocation of 2019, at EL2 in QEMU: it freezes right after\n"
        "`msr sctlr_el2`, and every control register looks right.\n"
    )
    before = gdb.run("kexec-step --before --timeout 30").document
    registers = step(1, "The registers, as the msr is about to leave them", "kexec-regs --assume SCTLR_EL2=$x14")
    walk = step(2, "How the instruction after the msr translates", "walk-ttbr0 $pc+4")
    check = step(3, "The verdict, before it executes", "kexec-check")
    stepped = step(4, "What the CPU does", "kexec-step --follow")
    repair = step(5, "The repair, into the frozen machine", "kexec-fix --yes")
    show(style.bold("6. The relocation goes on") + "\n(gdb) continue")
    gdb.command("continue", seconds=30)
    console = machine.qemu.console.wait_for(ARRIVED, seconds=30).group(0)
    show(console + "\n")
    return {
        "set_up": before["steps"],
        "registers": registers.document,
        "walk": walk.document,
        "check": check.document,
        "observed": stepped.document["observed"],
        "agrees": stepped.document["agrees"],
        "repair": repair.document,
        "console": console,
        "arrived": True,
    }


def _summary(document: dict[str, Any], style: Style) -> str:
    if not document["agrees"]:
        return style.bad("prediction and observation differ")
    bit = document["check"]["findings"][0]["evidence"]["bit"]
    return (
        style.good(f"Bit {bit} of one descriptor froze the machine: predicted, seen and repaired.")
        + f"\n{document['seconds']} s. Next: your own QEMU, started with -s -S:"
        + "\n  gdb-multiarch -x $(kexecdbg gdbinit) -ex 'target remote :1234' -ex kexec-step"
    )
