"""What Tab offers: the console's commands, GDB's own completion, registers, their fields, scenarios."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.arm64.registers import REGISTERS, decode
from kexecdbg.arm64.registers.model import Register
from kexecdbg.errors import TargetError
from kexecdbg.session import Session
from kexecdbg.ui.console.command_table import COMMANDS
from kexecdbg.ui.console.snapshot import Snapshot

_FIELD = re.compile(r"(?:(?:p|print)\s+)?(?P<register>\w+)\.(?P<field>\w*)")
_ASSUMED = re.compile(r".*\s--assume(?:=|\s+)(?P<name>\w*)")
_TOO_MANY = "max-completions reached"
_SHORTEST_LOWER_CASE = 3
"""Letters of a register's name in lower case before it is offered among GDB's commands."""


@dataclass(frozen=True)
class Candidate:
    """A completion.

    Attributes:
        text: replaces the last ``replaces`` characters before the cursor.
        meaning: what it stands for, for the eye; may be empty.
    """

    text: str
    replaces: int
    meaning: str = ""


def complete(line: str, session: Session | None, snapshot: Snapshot) -> list[Candidate]:
    """What can follow ``line``, the text before the cursor."""
    text = line.lstrip()
    if field := _FIELD.fullmatch(text):
        return list(_fields(field["register"], field["field"], snapshot))
    if match := re.fullmatch(r"lab\s+(?P<id>\S*)", text):
        return list(_scenarios(match["id"]))
    if match := _ASSUMED.fullmatch(text):
        return [Candidate(f"{name}=", len(match["name"])) for name in _starting(REGISTERS, match["name"])]
    word = re.split(r"\s", text)[-1]
    found = {} if session is None else {each.text: each for each in _from_gdb(text, word, session)}
    if text == word:
        found |= {each.text: each for each in _first_words(word, session)}
    elif word.startswith("$"):
        found |= {each.text: each for each in _convenience(word, session)}
    return [found[name] for name in sorted(found)]


def _from_gdb(text: str, word: str, session: Session) -> Iterator[Candidate]:
    """GDB's answer is whole lines; the part from the last word on replaces that word."""
    kept = text[: len(text) - len(word)]
    for line in _ask(session, f"complete {text}"):
        if line.startswith(kept) and _TOO_MANY not in line:
            yield Candidate(line[len(kept) :], len(word))


def _ask(session: Session, line: str) -> list[str]:
    try:
        return session.command(line).splitlines()
    except TargetError:
        return []  # GDB has ended, which the next command says; Tab has nothing to offer


def _first_words(word: str, session: Session | None) -> Iterator[Candidate]:
    for name in _starting(COMMANDS, word):
        yield Candidate(name, len(word), COMMANDS[name].summary)
    if word.isupper() or len(word) >= _SHORTEST_LOWER_CASE:
        aliases = {*_gdb_names(session, word), *_gdb_names(session, word.upper())}
        for name in {*_starting(REGISTERS, word), *filter(_register, aliases)}:
            yield Candidate(name, len(word), _meaning(name))


def _convenience(word: str, session: Session | None) -> Iterator[Candidate]:
    """``$TCR_EL2``: GDB completes its own variables only."""
    for name in {*_gdb_names(session, word[1:]), *_gdb_names(session, word[1:].upper())}:
        yield Candidate(f"${name}", len(word), _meaning(name))


def _register(name: str) -> Register | None:
    """The register of that name, in any spelling; ``None`` when there is none."""
    canonical = canonical_name(name)
    return None if canonical is None else REGISTERS.get(canonical)


def _meaning(name: str) -> str:
    register = _register(name)
    if register is None:
        return ""
    return register.long_name if register.name == name else f"{register.name}, {register.long_name}"


def _gdb_names(session: Session | None, start: str) -> list[str]:
    """The target's registers, as GDB calls them."""
    if session is None:
        return []
    prefix = "info registers "
    lines = _ask(session, f"complete {prefix}{start}")
    return [line.removeprefix(prefix) for line in lines if _TOO_MANY not in line]


def _fields(name: str, start: str, snapshot: Snapshot) -> Iterator[Candidate]:
    register = _register(name)
    if register is None:
        return
    value = snapshot.values.get(register.name)
    if value is None:
        meanings = dict.fromkeys(_all_fields(register), "")
    else:
        fields = decode(register.name, value, snapshot.state).fields
        meanings = {field.name: f"{field.value:#x}  {field.meaning}" for field in fields}
    for field in _starting(meanings, start):
        yield Candidate(field, len(start), meanings[field])


def _all_fields(register: Register) -> list[str]:
    return [field.name for layout in register.layouts for field in layout.fields]


def _scenarios(start: str) -> Iterator[Candidate]:
    from kexecdbg.lab.scenarios import all_scenarios

    for scenario in all_scenarios().values():
        if scenario.id.lower().startswith(start.lower()):
            yield Candidate(scenario.id, len(start), scenario.summary)


def _starting(names: Iterable[str], start: str) -> list[str]:
    return [name for name in names if name.lower().startswith(start.lower())]
