"""``kexec-image``: the image that kexec has loaded, and the audit of its page list."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gdb

from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.ui.style import Style, is_ascii

from ..command import Command, add_assume_option, evaluate_address, selected_debugger, with_assumptions

if TYPE_CHECKING:
    from kexecdbg.arm64.interfaces import PhysicalMemory
    from kexecdbg.checks.image_view import KimageView
    from kexecdbg.kexec.argument import ArgumentLayout
    from kexecdbg.machine.state import CpuState

_LOADED = "&kexec_image"


class KexecImage(Command):
    """See SUMMARY."""

    NAME = "kexec-image"
    SUMMARY = (
        "Show the image that kexec has loaded: struct kimage (or the argument of the 2019 series), its segments, its "
        "page list, where its pages go and how they are mapped; and audit it."
    )
    ANY_CPU = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "address",
            nargs="?",
            metavar="ADDRESS",
            help="of struct kimage, a GDB expression; default: what the relocation code at the PC gets in x0, or "
            "what the kernel's kexec_image points to",
        )
        parser.add_argument("--list", action="store_true", help="show every run of the page list")
        parser.add_argument("--map", action="store_true", help="draw what is copied where, and what lies where in RAM")
        parser.add_argument(
            "--vmlinux", metavar="FILE", help="take the layout of struct kimage from this kernel's BTF or DWARF"
        )
        add_assume_option(parser)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.image_entry import argument_here, physical_addresses
        from kexecdbg.checks.image_view import find_argument, view_image
        from kexecdbg.ui.image_json import image_json
        from kexecdbg.ui.image_text import image_text

        target = selected_debugger()
        state, memory = with_assumptions(target.state(), arguments.assume), target.memory
        found = None if arguments.address else argument_here(state, memory)
        if found is None:
            address = evaluate_address(arguments.address) if arguments.address else _loaded_image(state, memory)
            found = find_argument(memory, physical_addresses(state, memory, address), _kernel_layout(arguments.vmlinux))
        elif arguments.vmlinux is not None:
            found = find_argument(memory, (found.address,), _kernel_layout(arguments.vmlinux))
        view = view_image(state, memory, found)
        text = image_text(
            view,
            style,
            whole_list=arguments.list,
            picture=_picture(state, memory, view, style) if arguments.map else "",
        )
        return image_json(view), text


def _picture(state: CpuState, memory: PhysicalMemory, view: KimageView, style: Style) -> str:
    from kexecdbg.checks.page_map import page_map
    from kexecdbg.machine.memory_map import memory_map_of
    from kexecdbg.ui.page_map_text import COLUMNS, page_map_text

    drawn = page_map(view, COLUMNS, memory_map_of(memory), _kernel(state, memory))
    return page_map_text(drawn, view.pages.page_size, style, ascii_only=is_ascii(sys.__stdout__))


def _kernel(state: CpuState, memory: PhysicalMemory) -> tuple[int, int] | None:
    """Where the running kernel lies, by the symbols that GDB has of it; ``None`` without them."""
    from kexecdbg.checks.image_entry import translated

    try:
        text, stext, end = (evaluate_address(f"&{name}") for name in ("_text", "_stext", "_end"))
    except UsageError:
        return None
    # What lies before _stext is not mapped (Linux arch/arm64/mm/mmu.c, map_kernel()).
    runs_at = translated(state, memory, stext)
    return None if runs_at is None else (runs_at - (stext - text), runs_at + end - stext)


def _loaded_image(state: CpuState, memory: PhysicalMemory) -> int:
    """What the kernel's kexec_image points to; in user space too, where GDB itself cannot read the kernel's memory."""
    from kexecdbg.checks.image_entry import translated

    try:
        variable = evaluate_address(_LOADED)
    except UsageError:
        raise UsageError(
            "the CPU is not at relocation code, and there is no symbol kexec_image; type kexec-image ADDRESS (of "
            "struct kimage), or give GDB the kernel's symbols: symbol-file vmlinux"
        ) from None
    place = translated(state, memory, variable)
    if place is None:
        raise UsageError(
            f"kexec_image, at {variable:#x}, is not mapped: the symbols are not the running kernel's (KASLR: "
            "symbol-file vmlinux -o SLIDE), or the CPU is in user space; stop it in the kernel, for instance with "
            "hbreak __arm64_sys_reboot"
        )
    address = int.from_bytes(memory.read(place, 8), "little")
    if not address:
        raise UsageError("kexec_image is 0, no image is loaded: load the second kernel first (kexec -l)")
    return address


def _kernel_layout(vmlinux: str | None) -> ArgumentLayout | None:
    """The layout of the kernel whose file was given, or whose symbols GDB has."""
    from kexecdbg.kexec.kernel_layout import layout_of_kernel

    if vmlinux is not None:
        return layout_of_kernel(Path(vmlinux))
    for file in gdb.objfiles():
        try:
            return layout_of_kernel(Path(str(file.filename)))
        except EnvironmentProblem:
            continue  # no kernel's file, or without debug information: the layout is told by what is in memory
    return None


COMMAND = KexecImage
