"""``python -m tests.traces.record_all [NAME...]``: record the corpus again, all of it or the named files.

It needs QEMU, the cross binutils and, for the real kernel's, GDB and Debian's packages (kexecdbg/lab/linux). A file is
replaced when its recording has come to its end, and not before.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kexecdbg.errors import KexecdbgError
from kexecdbg.lab.boot import boot
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenario import Scenario
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.trace.recording.describe import command_line_of
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.recording.record import Recording
from kexecdbg.trace.recording.result import Limits
from tests.traces.corpus import RELOCATION, STARTS, KernelTrace, kernel_traces, lab_traces, path_of
from tests.traces.record_kernels import record_kernel

_SECONDS = 120.0


def main(arguments: Sequence[str]) -> int:
    """Record what is asked for; exit status 0, or 2 when it cannot be done."""
    known = [*lab_traces(), *kernel_traces()]
    parser = argparse.ArgumentParser(prog="python -m tests.traces.record_all", description="Record the corpus again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file's name without .kxt (default: all)")
    names = parser.parse_args(arguments).names or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{', '.join(unknown)}: not in the corpus, which has {', '.join(known)}")
    try:
        with tempfile.TemporaryDirectory() as directory:
            for recorded in _recorded(names, Path(directory)):
                path = Path(shutil.move(recorded, path_of(recorded.stem)))
                print(f"{path.name:<22}{path.stat().st_size:>9,} bytes", flush=True)
    except KexecdbgError as error:
        print(f"record_all: {error}", file=sys.stderr)
        return 2
    return 0


def _recorded(names: Sequence[str], directory: Path) -> Iterator[Path]:
    """The files in ``directory``, each when it is whole."""
    for name, scenario in lab_traces().items():
        if name in names:
            yield record_scenario(scenario, directory / f"{name}.kxt")
    wanted = [trace for name, trace in kernel_traces().items() if name in names]
    for cpu in dict.fromkeys(trace.cpu for trace in wanted):
        yield from _record_windows([trace for trace in wanted if trace.cpu == cpu], directory)


def record_scenario(scenario: Scenario, path: Path) -> Path:
    """Record a scenario from where it is judged until its guest freezes or ends.

    From QEMU's log where nothing is copied; a copied page that is recorded by stepping takes up less.
    """
    guest = scenario.guest.build()
    # The seeds in the device tree would make every recording another one.
    guest = replace(guest, machine=f"{guest.machine},dtb-randomness=off")
    with boot(guest) as machine, GdbRemote(str(machine.qemu.gdb_socket)) as remote:
        start = _start(scenario, guest)
        if start is not None:
            remote.run_to([start], _SECONDS)
        options = RecordingOptions(
            engine=Engine.LOG if isinstance(scenario.guest, EnableCase) else Engine.STEPPING,
            limits=Limits(seconds=_SECONDS, until=() if guest.rests_at is None else (guest.rests_at,)),
            command_line=command_line_of(machine.qemu.pid),
            symbol_file=machine.symbol_file,
        )
        Recording(remote, path, options).run()
    return path


def _start(scenario: Scenario, guest: LabGuest) -> int | None:
    """Where the recording starts; ``None`` for the guest's first instruction."""
    symbol = STARTS.get(scenario.id)
    return guest.judged_from if symbol is None else guest.program.symbols[symbol]


def _record_windows(traces: Sequence[KernelTrace], directory: Path) -> Iterator[Path]:
    """Windows of one boot. Those of a relocation come together, but only what was asked for is given back."""
    windows = {trace.window for trace in traces}
    if windows & RELOCATION:
        windows |= RELOCATION
    (cpu,) = {trace.cpu for trace in traces}
    files = {trace.window: directory / f"{trace.name}.kxt" for trace in kernel_traces().values() if trace.cpu == cpu}
    record_kernel(cpu, {window: path for window, path in files.items() if window in windows})
    yield from (files[trace.window] for trace in traces)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
