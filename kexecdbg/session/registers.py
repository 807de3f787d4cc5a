"""The registers of the selected CPU as a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

from kexecdbg.arm64.register_names import known_name
from kexecdbg.errors import RegisterUnknownError
from kexecdbg.session.documents import number, optional_number
from kexecdbg.session.gdb import GdbSession

_DefaultT = TypeVar("_DefaultT")


class Registers(Mapping[str, int]):
    """Register values by name (``SCTLR_EL2``, ``x0``, ``pc``), read from the stopped machine each time.

    ``registers[name]`` raises :exc:`RegisterUnknownError` when the target does not have the register or cannot read
    it, and :exc:`UsageError` when no register has that name; ``registers.get(name)`` is ``None`` for the former.
    """

    def __init__(self, gdb: GdbSession, seconds: float) -> None:
        self._gdb = gdb
        self._seconds = seconds

    def __getitem__(self, name: str) -> int:
        value = self.get(name)
        if value is None:
            remedy = "kexec-regs --all lists what it has"
            raise RegisterUnknownError(
                known_name(name), f"registers[{name!r}]", f"the target does not give it; {remedy}"
            )
        return value

    @overload
    def get(self, name: str, /) -> int | None: ...
    @overload
    def get(self, name: str, /, default: int | _DefaultT) -> int | _DefaultT: ...
    def get(self, name: str, /, default: int | _DefaultT | None = None) -> int | _DefaultT | None:
        """The value, or ``default`` when it is unknown."""
        canonical = known_name(name)
        # Alone, a register that is not there is an error of the command's.
        document = self._gdb.run(f"kexec-regs --raw {canonical} PC", self._seconds).document
        value = optional_number(document[canonical]["value"])
        return default if value is None else value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def snapshot(self) -> dict[str, int]:
        """All registers that the target provides, by canonical name."""
        document = self._gdb.run("kexec-regs --all --raw", self._seconds).document
        return {name: number(entry["value"]) for name, entry in document.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())
