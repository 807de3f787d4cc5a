"""The stub's description of its registers (GDB manual, "Target Descriptions"), by canonical name."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass

from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.errors import TargetError

_CORE_FEATURE = "org.gnu.gdb.aarch64.core"
_MAX_INCLUDES = 64
_INCLUDE = re.compile(r'<xi:include\s+href="([^"]*)"\s*/>')
_INCLUDED = "included-file"


@dataclass(frozen=True)
class DescribedRegister:
    """One register of the stub.

    Attributes:
        number: what ``p`` and ``P`` packets call it.
        gdb_name: what GDB calls it.
        canonical: the Arm ARM's name; ``None`` when it has none that we know (``v0``).
        size: bytes.
        is_core: it is of the core feature; these make up the ``g`` packet of QEMU (gdbstub.c, num_g_regs).
    """

    number: int
    gdb_name: str
    canonical: str | None
    size: int
    is_core: bool


@dataclass(frozen=True)
class TargetDescription:
    """All registers of a stub.

    Attributes:
        files: the XML text by file name, ``target.xml`` first of all.
        registers: in the order of their numbers.
    """

    files: Mapping[str, str]
    registers: tuple[DescribedRegister, ...]

    def by_canonical_name(self) -> dict[str, DescribedRegister]:
        """The register for each canonical name; of duplicates the one that GDB calls by that name."""
        found: dict[str, DescribedRegister] = {}
        for register in self.registers:
            name = register.canonical
            if name is not None and (name not in found or register.gdb_name == name):
                found[name] = register
        return found


def included_files(text: str) -> tuple[str, ...]:
    """The files that a description includes."""
    return tuple(_INCLUDE.findall(text))


def read_description(files: Mapping[str, str]) -> TargetDescription:
    """The registers in ``files``; numbers are counted on where a register states none.

    Raises:
        TargetError: it is not XML, has no registers, or is not AArch64's.
    """
    registers: list[DescribedRegister] = []
    next_number = 0
    for feature in _features(files, "target.xml", 0):
        for element in feature.iter("reg"):
            number = int(element.get("regnum", next_number))
            name = element.get("name", "")
            size = int(element.get("bitsize", 0)) // 8
            is_core = feature.get("name") == _CORE_FEATURE
            registers.append(DescribedRegister(number, name, canonical_name(name), size, is_core))
            next_number = number + 1
    if not any(register.is_core for register in registers):
        raise TargetError("gdbstub: its target description has no AArch64 registers; is the machine arm64?")
    return TargetDescription(dict(files), tuple(sorted(registers, key=lambda register: register.number)))


def _features(files: Mapping[str, str], name: str, depth: int) -> list[ElementTree.Element]:
    """The features of a file in the order of the text, those of included files where the include stands."""
    if depth > _MAX_INCLUDES or name not in files:
        return []
    found = []
    for element in _parse(files[name]).iter():
        if element.tag == "feature":
            found.append(element)
        elif element.tag == _INCLUDED:
            found += _features(files, element.get("href", ""), depth + 1)
    return found


def _parse(text: str) -> ElementTree.Element:
    try:
        # QEMU uses the prefix xi without declaring it (gdbstub.c, get_feature_xml; GDB does not mind).
        return ElementTree.fromstring(_INCLUDE.sub(rf'<{_INCLUDED} href="\1"/>', text))
    except ElementTree.ParseError as error:
        raise TargetError(f"gdbstub: its target description is not XML: {error}") from error
