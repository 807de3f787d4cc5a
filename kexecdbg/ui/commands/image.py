"""``kexecdbg image``: kexec-image on a memory dump."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.checks.image_entry import argument_here, physical_addresses
from kexecdbg.checks.image_view import find_argument, view_image
from kexecdbg.errors import UsageError
from kexecdbg.kexec.kernel_layout import layout_of_kernel
from kexecdbg.machine.elf_core import ElfCore
from kexecdbg.machine.memory_map import memory_map_of
from kexecdbg.machine.state import CpuState
from kexecdbg.ui.image_json import image_json
from kexecdbg.ui.image_text import image_text
from kexecdbg.ui.relocate_json import comparison_json
from kexecdbg.ui.relocate_text import comparison_text
from kexecdbg.ui.sources import STATE_HELP, registers_of_file
from kexecdbg.ui.style import Style, is_ascii, style_for

if TYPE_CHECKING:
    from kexecdbg.checks.image_view import KimageView
    from kexecdbg.kexec.list_reader import PageList
    from kexecdbg.kexec.page_contents import PageComparison

SUMMARY = (
    "Show and audit the image that kexec has loaded, in a dump that QEMU's monitor made (dump-guest-memory FILE). The "
    "dump has no system registers: give them with --state, or those that matter with --assume."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The dump, the address, and what the dump does not have."""
    parser.add_argument("--core", required=True, type=Path, metavar="FILE", help="the ELF file of dump-guest-memory")
    parser.add_argument(
        "address",
        nargs="?",
        metavar="ADDRESS",
        help="physical address of struct kimage or kern_reloc_arg; default: what the CPU has in x0",
    )
    parser.add_argument("--cpu", type=int, default=0, metavar="N", help="whose registers (default: %(default)s)")
    parser.add_argument(
        "--vmlinux",
        type=Path,
        metavar="FILE",
        help="the running kernel's ELF file: the layout of struct kimage and, with --map, where the kernel lies",
    )
    parser.add_argument("--state", metavar="FILE", help=STATE_HELP)
    parser.add_argument("--assume", action="append", default=[], metavar="REG=VALUE", help="a register's value")
    parser.add_argument(
        "--after",
        type=Path,
        metavar="LATER",
        help="compare every destination page in LATER, a dump from after the copy, with what its source holds in FILE",
    )
    parser.add_argument("--list", action="store_true", help="show every run of the page list")
    parser.add_argument("--map", action="store_true", help="draw what is copied where, and what lies where in RAM")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when nothing was found that makes the relocation fail, and no page compared differs; else 1."""
    kernel = None if arguments.vmlinux is None else layout_of_kernel(arguments.vmlinux)
    with ElfCore(arguments.core) as core:
        state = _state(core, arguments)
        found = None if arguments.address else argument_here(state, core)
        if found is None:
            address = _number(arguments.address, "ADDRESS") if arguments.address else state.get("X0")
            if address is None:
                raise UsageError(f"core {core.path} has no registers: give the ADDRESS of struct kimage")
            found = find_argument(core, physical_addresses(state, core, address), kernel)
        elif kernel is not None:
            found = find_argument(core, (found.address,), kernel)
        view = view_image(state, core, found)
        comparison = None if arguments.after is None else _compare(view.pages, core, arguments.after)
        if arguments.json:
            verified = None if comparison is None else comparison_json(comparison)
            print(json.dumps({**image_json(view), "verified": verified, "core_missing": list(core.missing)}, indent=1))
        else:
            style = style_for(sys.stdout)
            if comparison is not None:
                print("\n".join(comparison_text(comparison, style)))
            picture = _picture(view, core, arguments.vmlinux, style) if arguments.map else ""
            print(image_text(view, style, whole_list=arguments.list, picture=picture))
            for clause in core.missing:
                print(f"the core lacks {clause}")
    return 0 if view.sound and (comparison is None or not comparison.differing) else 1


def _picture(view: KimageView, core: ElfCore, vmlinux: Path | None, style: Style) -> str:
    from kexecdbg.checks.page_map import page_map
    from kexecdbg.kexec.running_kernel import running_kernel
    from kexecdbg.ui.page_map_text import COLUMNS, page_map_text

    kernel = None if vmlinux is None else running_kernel(vmlinux, core, core.populated_ranges())
    drawn = page_map(view, COLUMNS, memory_map_of(core), kernel)
    return page_map_text(drawn, view.pages.page_size, style, ascii_only=is_ascii(sys.stdout))


def _compare(pages: PageList, core: ElfCore, after: Path) -> PageComparison:
    """The destinations in the dump ``after`` against the sources in ``core``.

    The list is that of ``core``: the copy may overwrite struct kimage itself, as Linux allows it to since 5.19.
    """
    from kexecdbg.kexec.page_contents import PageContents

    contents = PageContents(pages, core)
    with ElfCore(after) as later:
        return contents.compare(later)


def _state(core: ElfCore, arguments: argparse.Namespace) -> CpuState:
    if core.cpus and not 0 <= arguments.cpu < len(core.cpus):
        raise UsageError(f"--cpu {arguments.cpu}: the core has the registers of CPUs 0 to {len(core.cpus) - 1}")
    values = {} if arguments.state is None else dict(registers_of_file(arguments.state).values)
    for assumption in arguments.assume:
        name, equals, value = assumption.partition("=")
        canonical = canonical_name(name)
        if not equals or canonical is None:
            raise UsageError(f"--assume {assumption}: write it as REGISTER=VALUE, for instance TCR_EL2=0x80843510")
        values[canonical] = _number(value, f"--assume {name}")
    # They are what the CPU had, not a write that is still to come: the dump just lacks them.
    return CpuState({**(core.cpus[arguments.cpu] if core.cpus else {}), **values})


def _number(text: str, what: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageError(f"{what} {text}: write a number, for instance 0x1b3081000") from None
    if not 0 <= value < 1 << 64:
        raise UsageError(f"{what} {text}: it does not fit into 64 bits")
    return value
