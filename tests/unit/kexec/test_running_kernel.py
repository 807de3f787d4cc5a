"""Where the running kernel lies, by the page that it has written for tools that read crash dumps."""

from __future__ import annotations

from kexecdbg.kexec.running_kernel import vmcoreinfo
from kexecdbg.machine.memory import BytesMemory

RAM, PAGE = 0x4000_0000, 0x1000
INFO = b"OSRELEASE=6.1.0\nSYMBOL(_stext)=ffff800008010000\nNUMBER(kimage_voffset)=0xffff7fffc7e00000\n"


def ram(*pages: bytes) -> BytesMemory:
    return BytesMemory({RAM: b"".join(page.ljust(PAGE, b"\0") for page in pages)})


def test_the_page_is_found_among_those_that_only_begin_like_it() -> None:
    format_string, elsewhere = b"OSRELEASE=%s\n\0BUILD-ID", b"\0" * 16 + INFO
    memory = ram(b"", format_string, elsewhere, INFO, b"")
    ranges = [(RAM + 8, RAM + 2 * PAGE), (RAM + 2 * PAGE, RAM + 5 * PAGE)]
    found = vmcoreinfo(memory, ranges)
    assert found is not None and found["NUMBER(kimage_voffset)"] == "0xffff7fffc7e00000"
    assert (found["OSRELEASE"], found["SYMBOL(_stext)"]) == ("6.1.0", "ffff800008010000")
    assert vmcoreinfo(memory, ranges[:1]) is None
    assert vmcoreinfo(memory, [(RAM, RAM + 100)]) is None
