"""Where the kernel lies that runs now, by what it has written down for tools that read crash dumps: VMCOREINFO.

Linux Documentation/admin-guide/kdump/vmcoreinfo.rst; the text is a page of its own that begins with OSRELEASE
(kernel/crash_core.c, crash_save_vmcoreinfo_init()), in the memory of every kernel that can kexec.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.kexec.kernel_elf import open_vmlinux, symbol_address

_PAGE = 0x1000
"""Of the smallest granule; the others are multiples of it."""
_BEGIN = b"OSRELEASE="
_FIRST_WORD = int.from_bytes(_BEGIN[:4], "little")
_CHUNK = 0x40_0000
_MASK = (1 << 64) - 1
_NEEDED = ("SYMBOL(_stext)", "NUMBER(kimage_voffset)")
_LINE = re.compile(rb"(?P<name>[!-<>-~]+)=(?P<value>[ -~]*)\n")


def vmcoreinfo(memory: PhysicalMemory, ranges: Iterable[tuple[int, int]]) -> dict[str, str] | None:
    """The entries of VMCOREINFO in the physical addresses ``ranges``; ``None`` when none is there that is whole."""
    for low, high in ranges:
        for start in range(-(-low // _PAGE) * _PAGE, high - _PAGE + 1, _CHUNK):
            size = (min(start + _CHUNK, high) - start) // _PAGE * _PAGE
            words = np.frombuffer(memory.read(start, size), "<u4")[:: _PAGE // 4]
            for place in np.flatnonzero(words == _FIRST_WORD).tolist():
                text = memory.read(start + place * _PAGE, _PAGE)
                found = {line["name"].decode(): line["value"].decode() for line in _LINE.finditer(text)}
                if text.startswith(_BEGIN) and all(name in found for name in _NEEDED):
                    return found
    return None


def running_kernel(vmlinux: Path, memory: PhysicalMemory, ranges: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Physical start and end (exclusive) of the kernel that runs, whose ELF file is ``vmlinux``; wherever KASLR put it.

    ``None`` when the kernel has written nothing down in ``ranges``, or the file has not the symbols that it takes.

    Raises:
        EnvironmentProblem: the file cannot be read.
        MemoryUnreadableError: a part of ``ranges`` cannot.
    """
    with open_vmlinux(vmlinux) as elf:
        text, stext, end = (symbol_address(elf, name) for name in ("_text", "_stext", "_end"))
    if text is None or stext is None or end is None or (found := vmcoreinfo(memory, ranges)) is None:
        return None
    runs_at, offset = (int(found[name], 16) for name in _NEEDED)
    start = (runs_at - offset - (stext - text)) & _MASK
    return start, start + end - text
