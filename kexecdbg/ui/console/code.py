"""The code around an address, with the writes of SCTLR_ELx marked and the one that switches the MMU on named."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, decode_instruction
from kexecdbg.checks.enable_site import pending_write, writes_sctlr
from kexecdbg.errors import RegisterUnknownError, TargetError
from kexecdbg.session import Session
from kexecdbg.ui.console.snapshot import Snapshot
from kexecdbg.ui.style import Style

LINES_BEFORE, LINES_AFTER = 8, 11
_LINE = re.compile(r"(?:=>)?\s*(?P<address>0x[0-9a-f]+)(?: <(?P<symbol>[^>]*)>)?:\t(?P<text>.*)")
_WORDS = re.compile(r"(?:\t)(0x[0-9a-f]{8})\b")


@dataclass(frozen=True)
class CodeLine:
    """One instruction.

    Attributes:
        address: where it is.
        symbol: ``turn_on_mmu+36``; empty without one.
        text: GDB's disassembly, with its symbols.
        word: the encoding.
    """

    address: int
    symbol: str
    text: str
    word: int


def code_around(session: Session, address: int, before: int = LINES_BEFORE, after: int = LINES_AFTER) -> list[CodeLine]:
    """The instructions around ``address``; from it on where what precedes it cannot be read.

    Raises:
        TargetError: the memory at ``address`` cannot be read.
    """
    start, count = address - before * INSTRUCTION_SIZE, before + 1 + after
    for first, number in ((start, count), (address, count), (address, 1)):
        try:
            return _read(session, max(first, 0), number)
        except TargetError:
            if number == 1 or session.gdb_has_ended:
                raise
    return []


def _read(session: Session, first: int, count: int) -> list[CodeLine]:
    matches = filter(None, map(_LINE.match, session.command(f"x/{count}i {first:#x}").splitlines()))
    words = [int(word, 16) for word in _WORDS.findall(session.command(f"x/{count}xw {first:#x}"))]
    return [
        CodeLine(int(match["address"], 16), match["symbol"] or "", " ".join(match["text"].split("\t", 2)), word)
        for match, word in zip(matches, words, strict=False)
    ]


def code_text(lines: list[CodeLine], snapshot: Snapshot, style: Style) -> str:
    """The lines as text: ``=>`` at the PC, ``M`` at a write of SCTLR_ELx."""
    shown, function = [], None
    for line in lines:
        name = line.symbol.partition("+")[0]
        if name != function and name:
            shown.append(style.bold(f"{line.symbol}:"))
        function = name
        shown.append(_shown(line, snapshot, style))
    return "\n".join(shown)


def _shown(line: CodeLine, snapshot: Snapshot, style: Style) -> str:
    is_next = line.address == snapshot.pc
    mark, effect = _mark(line, snapshot)
    text = f"{'=>' if is_next else '  '}{mark} {line.address:#x}  {line.text}{f'   <- {effect}' if effect else ''}"
    return style.warn(text) if mark.strip() else style.bold(text) if is_next else text


def switches_mmu_on(line: CodeLine, snapshot: Snapshot) -> bool | None:
    """Whether the instruction, at the PC, switches the MMU on; ``None`` when it writes SCTLR_ELx and what is unknown.

    Elsewhere than at the PC it is not known yet what will be written.
    """
    instruction = decode_instruction(line.word, line.address)
    if not writes_sctlr(instruction):
        return False
    try:
        write = pending_write(instruction, snapshot.state) if line.address == snapshot.pc else None
    except RegisterUnknownError:
        return None
    return None if write is None else write.enables_mmu


def _mark(line: CodeLine, snapshot: Snapshot) -> tuple[str, str]:
    switches = switches_mmu_on(line, snapshot)
    if switches:
        return "M", "MMU on"
    if switches is None:
        return "M", "SCTLR"
    is_write = writes_sctlr(decode_instruction(line.word, line.address))
    return ("M", "MMU off") if is_write else (" ", "")
