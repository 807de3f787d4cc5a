"""Register values and table entries found in pasted text: a mail, a boot log, a Linux oops, a debugger's dump.

The text is taken as it comes: quoted mail, log prefixes and wrapped lines do no harm. What is not understood is left
alone; no text raises anything. A register's name is followed by its value with nothing between them but punctuation
and the few words people write there (``TCR_EL2 is set to 0x80843510``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.register_names import canonical_name

_MAX_DIGITS = 16
_LINKED_NAMES = 4


@dataclass(frozen=True)
class FoundRegister:
    """A register value and the line of text it was found in."""

    name: str
    value: int
    line: str


@dataclass(frozen=True)
class PrintedWalk:
    """The table entries that Linux prints for a faulting address (``show_pte`` in arch/arm64/mm/fault.c).

    Attributes:
        va: the address.
        entries: (Linux's name of the level, descriptor) from ``pgd`` down, as far as they were printed. A level that
            the kernel folds into the one above is printed too, with the same descriptor.
        page_kib: page size, when a ``pgtable:`` line says it; ``va_bits`` the size of the address range.
        owner: ``swapper`` or ``user``.
        pgdp: physical address of the first table; ``None`` when it is not printed (older kernels print a hash).
    """

    va: int
    entries: tuple[tuple[str, int], ...]
    page_kib: int | None = None
    va_bits: int | None = None
    owner: str | None = None
    pgdp: int | None = None


@dataclass(frozen=True)
class PastedText:
    """What a text says.

    Attributes:
        registers: in the order of the text, a repetition of the same value left out.
        walks: printed table entries.
        code: ``pc`` and ``lr`` where the kernel prints them as symbols.
        unknown: names that end like a register's and have a value, and that no register has.
        remarks: what had to be decided to read the text, as sentences.
    """

    registers: tuple[FoundRegister, ...]
    walks: tuple[PrintedWalk, ...]
    code: Mapping[str, str]
    unknown: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def values(self) -> dict[str, int]:
        """The value of each register; of several, the first: in a log it is the first fault that counts."""
        values: dict[str, int] = {}
        for found in self.registers:
            values.setdefault(found.name, found.value)
        return values


def read_pasted_text(text: str) -> PastedText:
    """Find registers and table entries in ``text``; never raises."""
    text = _plain(text)
    found = sorted([*_named_registers(text), *_sentences(text), *_gdb_printed(text)], key=lambda item: item.position)
    level, remark = _level_of(text, found)
    registers = dict.fromkeys(
        FoundRegister(_with_level(item.name, level), item.value, _line_at(text, item.position)) for item in found
    )
    unique = {(register.name, register.value): register for register in reversed(registers)}
    kept = tuple(register for register in registers if unique[register.name, register.value] is register)
    remarks = (remark,) if remark and any(item.name in _LEVEL_MISSING for item in found) else ()
    return PastedText(
        kept,
        tuple(_walks(text)),
        _code(text),
        tuple(dict.fromkeys(_unknown_names(text))),
        (*remarks, *_contradictions(kept)),
    )


@dataclass(frozen=True)
class _Item:
    position: int
    name: str
    value: int


_QUOTE = re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE)


def _plain(text: str) -> str:
    """Without mail quoting and without the quoted-printable form that mail archives show."""
    text = text.replace("\r\n", "\n")
    if "=3D" in text:
        text = text.replace("=\n", "").replace("=3D", "=")
    return _QUOTE.sub("", text)


def _line_at(text: str, position: int) -> str:
    start, end = text.rfind("\n", 0, position) + 1, text.find("\n", position)
    return text[start : end if end >= 0 else len(text)].strip()


# Names without the exception level, as kernels and boot loaders print them; the level they get is the one of the text.
_LEVEL_MISSING = frozenset({"ESR", "FAR", "ELR", "SPSR", "TCR", "MAIR", "TTBR0", "TTBR1"})
_ALIASES = {"HCR": "HCR_EL2", "VTCR": "VTCR_EL2", "VTTBR": "VTTBR_EL2", "HPFAR": "HPFAR_EL2"}
# How texts spell "of whichever level".
_ANY_LEVEL = re.compile(r"_EL[NX]$")
# Registers whose names are words or PSTATE bits, which texts mention in other senses.
_NOT_IN_TEXT = frozenset({"DAIF", "NZCV", "PAN", "UAO", "DIT", "TCO", "ALLINT", "SSBS", "SPSel", "PM", "SVCR"})

_WORD = re.compile(r"(?<![\w.$%/+-])[A-Za-z][A-Za-z0-9_]{1,31}(?!\.?\w)")
_GAP = re.compile(
    r"(?:\(/\d\d\)|[-=]>|[ \t:=|,()\[\]<*`'\"#&]|/|\b(?:is|was|now|set|to|be|value|reads|contains|holds|at|as)\b)*"
)
_LINK_GAP = re.compile(
    r"(?:[ \t:=|()*`'\"/]|\b(?:is|was|now|set|to|be|exactly|the|same|as|like|equals?|identical|value|of)\b)*"
)
_LINK = re.compile(r"same|equal|identical|=|/")
_BREAK = re.compile(r"[ \t]*\n[ \t]*(?=0[xX])")
_VALUE = re.compile(r"0[xX]([0-9a-fA-F_]+)(?!\.?\w)|([0-9a-fA-F]{5,16})(?!\.?\w|\+)")
_SHORT_VALUE = re.compile(r"([0-9a-fA-F]{1,4})(?!\.?\w|\+)")
_EXCEPTION_CLASS = re.compile(r"0x[0-9a-f]{1,2}/(?=0x)")  # QEMU's -d int: "...with ESR 0x21/0x8600000f"


@lru_cache(maxsize=1024)
def _register_name(word: str) -> str | None:
    """The register that ``word`` names in free text; one of ``_LEVEL_MISSING`` for a name without its level."""
    upper = _ANY_LEVEL.sub("", word.upper())
    if upper in _LEVEL_MISSING:
        return upper
    if upper in _ALIASES:
        return _ALIASES[upper]
    if numbered := re.fullmatch(r"X0?(\d{1,2})", upper):
        upper = f"X{int(numbered[1])}"
    name = canonical_name(upper)
    return None if name in _NOT_IN_TEXT else name


def _named_registers(text: str) -> Iterator[_Item]:
    for match in _WORD.finditer(text):
        name = _register_name(match[0])
        if name is not None:
            value = _value_after(text, match.end(), "_EL" in match[0].upper())
            if value is not None:
                yield _Item(match.start(), name, value)


def _value_after(text: str, position: int, words_allowed: bool, links: int = 0) -> int | None:
    """The value that follows a name, through further names that are said to be the same."""
    gap = _GAP.match(text, position)
    assert gap is not None  # it matches nothing too
    start = gap.end()
    if start > position and (words_allowed or not any(map(str.isalpha, gap[0]))):
        value = _value_at(text, start, gap[0])
        if value is not None:
            return value
    line_break = _BREAK.match(text, start)
    if line_break is not None and not text[position:start].strip(" \t:="):
        return _value_at(text, line_break.end(), "")
    link_gap = _LINK_GAP.match(text, position)
    assert link_gap is not None
    other = _WORD.match(text, link_gap.end())
    if links < _LINKED_NAMES and other and _LINK.search(link_gap[0]) and _register_name(other[0]):
        return _value_after(text, other.end(), words_allowed, links + 1)
    return None


def _value_at(text: str, position: int, gap: str) -> int | None:
    if exception_class := _EXCEPTION_CLASS.match(text, position):
        position = exception_class.end()
    match = _VALUE.match(text, position)
    if match is None:
        match = _SHORT_VALUE.match(text, position) if gap.strip() == "=" else None
        return int(match[1], 16) if match and any(map(str.isdigit, match[1])) else None
    digits = (match[1] or match[2]).replace("_", "")
    is_number = match[1] is not None or any(map(str.isdigit, digits))
    return int(digits, 16) if is_number and 0 < len(digits) <= _MAX_DIGITS else None


# What Linux says in sentences and abbreviations of its own.
_SENTENCES = (
    # The fault address: 16 digits from 4.17 on, as many as it has before.
    ("FAR", re.compile(r"at\s+virtual\s+address\s+([0-9a-f]{8,16})\b")),
    ("FAR", re.compile(r"\b[Uu]nhandled\s[^\n]{0,60}?\bat 0x([0-9a-f]{1,16})\b")),
    # The syndrome: older kernels print it only as the number of the oops; SErrors and bad modes as a code.
    ("ESR", re.compile(r"Internal error: [^\n]{0,60}?: (?:0x)?([0-9a-f]{8,16}) \[#\d+\]")),
    ("ESR", re.compile(r"\bon CPU\d+, code 0x([0-9a-f]{8,16}) -- ")),
    # The panic of KVM at EL2 (arch/arm64/kvm: hyp_panic, nvhe_hyp_panic_handler): "PS:600003c9 PC:... ESR:...".
    ("SPSR", re.compile(r"\bPS:([0-9a-f]{8,16}) PC:")),
    ("PAR_EL1", re.compile(r"\bPAR:([0-9a-f]{16})\b")),
)
# A register as GDB prints an expression, on the line after the command.
_GDB_PRINT = re.compile(
    r"\b(?:p|print)(?:/x)?[ \t]+\$(\w+)[ \t]*\n\$\d+ = (0x[0-9a-f]{1,16}|0|[1-9]\d{0,19})[ \t]*$", re.MULTILINE
)
_CODE = re.compile(r"(?<![\w.])(pc|lr) : (?![0-9a-f]{16}\b|\[)(\S{1,200})")
_UNKNOWN = re.compile(r"(?<![\w.$%-])([A-Za-z]\w{1,30}_EL[0-3])\b")


def _sentences(text: str) -> Iterator[_Item]:
    for name, pattern in _SENTENCES:
        yield from (_Item(match.start(), name, int(match[1], 16)) for match in pattern.finditer(text))


def _gdb_printed(text: str) -> Iterator[_Item]:
    for match in _GDB_PRINT.finditer(text):
        name, value = _register_name(match[1]), int(match[2], 0)
        if name is not None and value < 1 << 64:
            yield _Item(match.start(), name, value)


def _code(text: str) -> dict[str, str]:
    symbols: dict[str, str] = {}
    for match in _CODE.finditer(text):
        symbols.setdefault(match[1], match[2])
    return symbols


def _unknown_names(text: str) -> Iterator[str]:
    for match in _UNKNOWN.finditer(text):
        if _register_name(match[1]) is None and _value_after(text, match.end(), True) is not None:
            yield match[1]


def _level_of(text: str, found: list[_Item]) -> tuple[int, str]:
    """The exception level that names without one belong to, and why, as a sentence."""
    if "HYP panic" in text:
        return 2, "A HYP panic is KVM's, at EL2: names without a level are read as EL2's."
    pstate = next((item.value for item in found if item.name == "PSTATE"), None)
    if pstate is not None and not bits(pstate, 4, 4):
        level = max(1, el_of(pstate))
        return level, f"PSTATE {pstate:#x} is EL{el_of(pstate)}: names without a level are read as EL{level}'s."
    spsr = next((item.value for item in found if item.name == "SPSR"), None)
    if spsr is not None and el_of(spsr) > 1 and not bits(spsr, 4, 4):
        level = el_of(spsr)  # an exception is never taken to a lower level than it comes from
        return level, f"SPSR {spsr:#x} is from EL{level}: names without a level are read as EL{level}'s."
    return 1, "The text does not say the exception level: names without one are read as EL1's."


def _with_level(name: str, level: int) -> str:
    if name not in _LEVEL_MISSING:
        return name
    return f"{name}_EL{level}" if canonical_name(f"{name}_EL{level}") else f"{name}_EL1"


def _contradictions(found: tuple[FoundRegister, ...]) -> Iterator[str]:
    values: dict[str, list[int]] = {}
    for register in found:
        values.setdefault(register.name, []).append(register.value)
    for name, several in values.items():
        # What changes from one exception to the next is expected to differ; a control register is not.
        if len(several) > 1 and name.startswith(("SCTLR", "TCR", "MAIR", "TTBR", "HCR", "VTCR", "VTTBR", "ESR")):
            listed = ", ".join(f"{value:#x}" for value in several[:4])
            yield f"{name} is given with different values ({listed}): the first one counts."


_PGTABLE = re.compile(
    r"(swapper|user)\s+pgtable:\s+(\d{1,2})k\s+pages,\s+(\d{2})-bit\s+VAs(?:,\s+pgdp=([0-9a-f]{16}))?"
)
_ENTRY = re.compile(r",\s*\*?(p4d|pud|pmd|pte)=([0-9a-f]{16})\b")
_WALK = re.compile(rf"\[([0-9a-f]{{8,16}})\]\s+\*?pgd=([0-9a-f]{{16}})\b((?:{_ENTRY.pattern})*)")


def _walks(text: str) -> Iterator[PrintedWalk]:
    headers = list(_PGTABLE.finditer(text))
    seen = set()
    for match in _WALK.finditer(text):
        entries = (
            ("pgd", int(match[2], 16)),
            *((entry[1], int(entry[2], 16)) for entry in _ENTRY.finditer(match[3])),
        )
        header = next((header for header in reversed(headers) if header.start() < match.start()), None)
        if header is None:
            walk = PrintedWalk(int(match[1], 16), entries)
        else:
            pgdp = int(header[4], 16) if header[4] else None
            walk = PrintedWalk(int(match[1], 16), entries, int(header[2]), int(header[3]), header[1], pgdp)
        if walk not in seen:
            seen.add(walk)
            yield walk
