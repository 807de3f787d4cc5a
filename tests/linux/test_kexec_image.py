"""kexec-image on a real kernel that has loaded a second one: live with its symbols and without, and in a dump."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kexecdbg.kexec.kernel_elf import open_vmlinux, symbol_address
from kexecdbg.kexec.kimage_btf import layout_by_btf
from kexecdbg.kexec.kimage_dwarf import layout_by_dwarf
from kexecdbg.kexec.kimage_loads import ORDER, layout_by_loads
from kexecdbg.lab.linux.packages import fetch_kernel, fetch_symbols
from tests.linux.course import WITHOUT_SYMBOLS, Course

PAGE = 4096
AN_IMAGE = 20 << 20
LANES = ("old kernel  ", "destinations  ", "list pages  ")
"""Less than any kernel of a distribution has."""


def code_of(vmlinux: Path, name: str, size: int) -> bytes:
    """The first bytes of a function in the kernel's file."""
    with open_vmlinux(vmlinux) as elf:
        address = symbol_address(elf, name)
        assert address is not None
        for segment in elf.iter_segments("PT_LOAD"):
            start = segment["p_vaddr"]
            if start <= address < start + segment["p_filesz"]:
                return bytes(segment.data()[address - start : address - start + size])
    raise AssertionError(f"{name} is in no segment")


def test_dwarf_btf_and_the_loads_in_the_code_agree() -> None:
    vmlinux = fetch_symbols(fetch_kernel())
    by_dwarf, by_btf = layout_by_dwarf(vmlinux), layout_by_btf(vmlinux)
    assert by_dwarf.offsets == by_btf.offsets
    assert (by_dwarf.size, by_dwarf.segments) == (by_btf.size, by_btf.segments)
    by_loads = layout_by_loads(code_of(vmlinux, "arm64_relocate_new_kernel", 0x100))
    assert by_loads.offsets == {name: by_dwarf.offsets[name] for name in ORDER}


def test_the_image_is_sound_and_as_large_as_an_image_is(course: Course) -> None:
    image = course.images.with_symbols
    assert image["argument"]["layout"].startswith("struct kimage, by BTF of vmlinux")
    assert (image["sound"], image["audit"], image["unchecked"], image["list"]["end"]) == (True, [], [], "done")
    filled = sum(int(each["end"], 16) - int(each["start"], 16) for each in image["segments"])
    assert image["list"]["pages"] * PAGE == filled > AN_IMAGE
    assert len(image["segments"]) == 4  # kernel, initramfs, device tree, purgatory
    assert sum(run["pages"] for run in image["list"]["runs"]) == image["list"]["pages"]


def test_every_destination_is_in_the_linear_map_and_writable(course: Course) -> None:
    image = course.images.with_symbols
    assert image["regime"] == ("EL2&0" if course.has_vhe else "EL1&0")
    for each in image["destinations"]:
        assert each["mapped"] == int(each["end"], 16) - int(each["start"], 16)
        assert int(each["va"], 16) >> 48 == 0xFFFF


def test_the_control_pages_are_the_code_the_tables_the_vectors_and_the_swap_page(course: Course) -> None:
    image = course.images.with_symbols
    made = {int(area["start"], 16) & -PAGE for area in image["areas"] if area["kind"] in ("code", "tables")}
    vectors = int(image["argument"]["fields"]["arch.el2_vectors"], 16)
    assert bool(vectors) is not course.has_vhe
    control = {
        page
        for each in image["control_pages"]["ranges"]
        for page in range(int(each["start"], 16), int(each["end"], 16), PAGE)
    }
    assert len(control) == image["control_pages"]["pages"]
    made |= {vectors} if vectors else set()
    assert made < control
    # Kernels with a fifth level of tables (6.12.107, seen) make some copies of tables more and link them nowhere.
    spare = len(control - made)
    assert spare == 1 if course.linux_version < (6, 9) else spare >= 1


def test_by_its_address_and_without_symbols_it_is_the_same(course: Course) -> None:
    with_symbols, by_address = (dict(each) for each in (course.images.with_symbols, course.images.by_address))
    layouts = [each.pop("argument")["layout"] for each in (with_symbols, by_address)]
    assert (layouts[1] == "struct kimage, 5.16 to 6.1") is (course.name in WITHOUT_SYMBOLS)
    assert by_address == with_symbols


def test_a_dump_gives_the_same(course: Course) -> None:
    live, dumped = course.images.with_symbols, course.images.dumped
    same = ("sound", "audit", "list", "segments", "destinations", "areas")
    # A dump has no VBAR_ELx; the tables of 6.12 map what it points to, those of 6.1 do not.
    areas = [area for area in live["areas"] if not area["name"].startswith("the vectors of VBAR_")]
    assert {key: dumped[key] for key in same} == {**{key: live[key] for key in same}, "areas": areas}
    tcr = "TCR_EL2" if course.has_vhe else "TCR_EL1"
    assert any(clause.startswith(f"{tcr} = ") for clause in dumped["assumptions"])


def test_pictures_show_where_the_old_kernel_lies(course: Course) -> None:
    """Live by GDB's symbols, in the dump by what the kernel has written down for dumps; with KASLR too."""
    drawn = course.images.drawn.translate(str.maketrans("█▒·", "#+.")), course.images.drawn_from_dump
    live, dumped = ([line for line in text.splitlines() if line.startswith(LANES)] for text in drawn)
    assert live == dumped
    assert len(live) == 3 and re.fullmatch(r"old kernel +[#+]+\.+", live[0])


def test_a_dump_from_after_the_copy_has_every_page(course: Course) -> None:
    verified: Any = course.images.dumped["verified"]
    assert (verified["pages"], verified["differing"]) == (course.images.dumped["list"]["pages"], 0)
