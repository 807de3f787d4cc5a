"""The layout of ``struct kimage`` in a kernel whose ELF file is at hand."""

from __future__ import annotations

from pathlib import Path

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.kexec.argument import ArgumentLayout
from kexecdbg.kexec.kimage_btf import layout_by_btf
from kexecdbg.kexec.kimage_dwarf import layout_by_dwarf


def layout_of_kernel(vmlinux: Path) -> ArgumentLayout:
    """By BTF, which is read in a tenth of a second, or else by DWARF.

    Raises:
        EnvironmentProblem: the file has neither, or they know no struct kimage; the message says what each said.
    """
    try:
        return layout_by_btf(vmlinux)
    except EnvironmentProblem as without_btf:
        try:
            return layout_by_dwarf(vmlinux)
        except EnvironmentProblem as without_dwarf:
            raise EnvironmentProblem(f"{without_dwarf}; {without_btf}") from without_btf
