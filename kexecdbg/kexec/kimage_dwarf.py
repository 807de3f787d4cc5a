"""Where the fields of ``struct kimage`` are, by a kernel's DWARF."""

from __future__ import annotations

from pathlib import Path

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.kexec.argument import ArgumentLayout
from kexecdbg.kexec.kernel_elf import open_vmlinux, symbol_address
from kexecdbg.kexec.kimage_fields import Member, layout_of_members

_USER = "machine_kexec"
"""A function whose compilation unit has the whole structure (arch/arm64/kernel/machine_kexec.c)."""
_STRUCTURE = "DW_TAG_structure_type"


def layout_by_dwarf(vmlinux: Path) -> ArgumentLayout:
    """The layout of ``struct kimage`` in the kernel with this ELF file. Takes about a second.

    Raises:
        EnvironmentProblem: the file has no debug information, or none of kexec.
    """
    with open_vmlinux(vmlinux) as elf:
        if not elf.has_dwarf_info(strict=True):
            raise EnvironmentProblem(f"vmlinux {vmlinux}: it has no DWARF; give one that is not stripped")
        unit = _unit(elf, elf.get_dwarf_info(relocate_dwarf_sections=False))
        structure = None if unit is None else _structure(unit, "kimage")
        if structure is None:
            raise EnvironmentProblem(f"vmlinux {vmlinux}: its DWARF has no struct kimage (CONFIG_KEXEC_CORE is off?)")
        return layout_of_members(_members(structure), _size(structure), f"by DWARF of {vmlinux.name}")


def _unit(elf: ELFFile, dwarf: DWARFInfo) -> CompileUnit | None:
    """The compilation unit of :data:`_USER`, by .debug_aranges where the compiler made them."""
    address, ranges = symbol_address(elf, _USER), dwarf.get_aranges()
    offset = None if ranges is None or address is None else ranges.cu_offset_at_addr(address)
    if offset is not None:
        unit: CompileUnit = dwarf.get_CU_at(offset)
        return unit
    for each in dwarf.iter_CUs():
        name = each.get_top_DIE().attributes.get("DW_AT_name")
        if name is not None and name.value.endswith(f"/{_USER}.c".encode()):
            found: CompileUnit = each
            return found
    return None


def _structure(unit: CompileUnit, name: str) -> DIE | None:
    """The definition of a structure, among the unit's top-level entries."""
    for entry in unit.iter_DIE_children(unit.get_top_DIE()):
        if entry.tag == _STRUCTURE and _name(entry) == name and "DW_AT_byte_size" in entry.attributes:
            return entry
    return None


def _members(structure: DIE) -> list[Member]:
    found = []
    for entry in structure.iter_children():
        location = entry.attributes.get("DW_AT_data_member_location")
        if entry.tag == "DW_TAG_member" and location is not None:
            inner = _stripped(entry)
            nested = inner is not None and inner.tag == _STRUCTURE
            members = _members(inner) if inner is not None and nested else []
            found.append(Member(_name(entry), int(location.value), tuple(members)))
    return found


def _stripped(member: DIE) -> DIE | None:
    """The member's type without typedefs and qualifiers."""
    entry: DIE = member
    while "DW_AT_type" in entry.attributes:
        entry = entry.get_DIE_from_attribute("DW_AT_type")
        if entry.tag not in ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"):
            return entry
    return None


def _name(entry: DIE) -> str:
    attribute = entry.attributes.get("DW_AT_name")
    return "" if attribute is None else attribute.value.decode("utf-8", "replace")


def _size(structure: DIE) -> int:
    return int(structure.attributes["DW_AT_byte_size"].value)
