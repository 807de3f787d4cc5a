"""Where the fields of ``struct kimage`` are, by a kernel's BTF (section .BTF of vmlinux).

Format: Linux Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.kexec.argument import ArgumentLayout
from kexecdbg.kexec.kernel_elf import open_vmlinux
from kexecdbg.kexec.kimage_fields import Member, layout_of_members

_HEADER = struct.Struct("<HBBIIIII")
"""struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len."""
_MAGIC = 0xEB9F
_TYPE = struct.Struct("<III")
"""struct btf_type: name_off, info, size or type."""
_MEMBER = struct.Struct("<III")
"""struct btf_member: name_off, type, offset in bits."""
_STRUCT = 4
_BEHIND = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
           19: (0, 12)}  # fmt: skip
"""Bytes behind a type of each kind: some, and some for each of its vlen; none for the others."""
_LAST_KIND = 19


@dataclass(frozen=True)
class _Structure:
    name: int
    size: int
    members: bytes


def layout_by_btf(vmlinux: Path) -> ArgumentLayout:
    """The layout of ``struct kimage`` in the kernel with this ELF file.

    Raises:
        EnvironmentProblem: the file has no BTF, it is damaged, or it has no struct kimage.
    """
    with open_vmlinux(vmlinux) as elf:
        section = elf.get_section_by_name(".BTF")
        if section is None:
            raise EnvironmentProblem(f"vmlinux {vmlinux}: it has no BTF (CONFIG_DEBUG_INFO_BTF)")
        return layout_in_btf(section.data(), f"by BTF of {vmlinux.name}")


def layout_in_btf(data: bytes, name: str) -> ArgumentLayout:
    """The layout in BTF ``data``.

    Raises:
        EnvironmentProblem: it is damaged, or has no struct kimage.
    """
    try:
        magic, _, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise EnvironmentProblem(f"BTF begins with {magic:#x}, not {_MAGIC:#x}: not BTF, or big-endian")
        names = data[header + strings : header + strings + strings_size]
        structures = dict(_structures(data[header + types : header + types + types_size]))
    except struct.error as error:
        raise EnvironmentProblem(f"the BTF is damaged: {error}") from error
    for each in structures.values():
        if _text(names, each.name) == "kimage":
            return layout_of_members(_members(each, structures, names), each.size, name)
    raise EnvironmentProblem(f"struct kimage {name}: there is none (CONFIG_KEXEC_CORE is off?)")


def _structures(types: bytes) -> Iterator[tuple[int, _Structure]]:
    """The structures by their type number."""
    position, number = 0, 1
    while position < len(types):
        name, info, size = _TYPE.unpack_from(types, position)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        if not 0 < kind <= _LAST_KIND:
            raise EnvironmentProblem(f"the BTF is damaged, or newer: type {number} is of kind {kind}")
        position += _TYPE.size
        fixed, each = _BEHIND.get(kind, (0, 0))
        following = position + fixed + each * count
        if kind == _STRUCT:
            yield number, _Structure(name, size, types[position:following])
        position, number = following, number + 1


def _members(structure: _Structure, structures: dict[int, _Structure], names: bytes) -> Iterator[Member]:
    for name, number, offset in _MEMBER.iter_unpack(structure.members[: len(structure.members) // 12 * 12]):
        text = _text(names, name)
        # Only kimage->arch is looked into: a structure that contains itself would never end.
        inner = structures.get(number) if text == "arch" else None
        members = tuple(_members(inner, {}, names)) if inner is not None else ()
        # The upper byte is a bit-field's size where the structure has any (kind_flag).
        yield Member(text, (offset & 0xFF_FFFF) // 8, members)


def _text(names: bytes, offset: int) -> str:
    return names[offset : names.find(b"\0", offset)].decode("utf-8", "replace")
