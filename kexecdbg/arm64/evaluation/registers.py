"""The registers of an evaluation: known values, or unknown ones."""

from __future__ import annotations

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.pstate import PSTATE_VIEWS, flags_of, stack_register, uses_sp_elx, with_flags

ZERO_OR_SP = 31
"""Register number 31: XZR or SP, as the instruction has it."""

_WORD = mask(64)
_HALF = mask(32)
_GENERAL = {f"X{number}": number for number in range(31)}

_DECIDES_TRANSLATION = frozenset({"PAN"})
_PSTATE_FLAG_REGISTER = "NZCV"


class EvaluatedRegisters:
    """Registers that start as those of ``source`` and change as instructions are evaluated.

    Values are unsigned 64-bit integers or ``None``, unknown. The condition flags are kept apart: the NZCV bits of
    ``PSTATE`` as :meth:`get` gives it are those of the start once they have become unknown; use :attr:`flags`.
    """

    def __init__(self, source: RegisterValues) -> None:
        self._source = source
        self._general = [source.get(name) for name in _GENERAL]
        self.sp = source.get("SP")
        self._pstate = source.get("PSTATE")
        self.flags: int | None = None if self._pstate is None else flags_of(self._pstate)
        """Condition flags N, Z, C, V from bit 3 down; ``None`` when unknown."""
        self.pc = source.get("PC") or 0
        self._system: dict[str, int | None] = {}
        self._unknown_views: frozenset[str] = frozenset()

    def copy(self) -> EvaluatedRegisters:
        """Registers with the same values that change on their own."""
        other = EvaluatedRegisters.__new__(EvaluatedRegisters)
        other.__dict__.update(self.__dict__)
        other._general = list(self._general)
        other._system = dict(self._system)
        return other

    # RegisterValues

    def get(self, name: str, /) -> int | None:
        """The value of the register called ``name``, or ``None`` when it is unknown."""
        number = _GENERAL.get(name)
        if number is not None:
            return self._general[number]
        if name == "PC":
            return self.pc
        if name == "SP":
            return self.sp
        if name == "PSTATE":
            return self._pstate_with_flags()
        if name in self._system:
            return self._system[name]
        return self._source.get(name)

    def _pstate_with_flags(self) -> int | None:
        if self._pstate is None or self.flags is None:
            return self._pstate
        return with_flags(self._pstate, self.flags)

    # General registers by number

    def read(self, number: int, wide: bool = True) -> int | None:
        """General register ``number``, 31 being zero; the low 32 bits unless ``wide``."""
        if number == ZERO_OR_SP:
            return 0
        value = self._general[number]
        return value if wide or value is None else value & _HALF

    def write(self, number: int, value: int | None, wide: bool = True) -> None:
        """Set general register ``number``; 31 discards it. A 32-bit write clears the upper half."""
        if number != ZERO_OR_SP:
            self._general[number] = None if value is None else value & (_WORD if wide else _HALF)

    def read_or_sp(self, number: int, wide: bool = True) -> int | None:
        """General register ``number``, 31 being SP."""
        if number != ZERO_OR_SP:
            return self.read(number, wide)
        return self.sp if wide or self.sp is None else self.sp & _HALF

    def write_or_sp(self, number: int, value: int | None, wide: bool = True) -> None:
        """Set general register ``number``, 31 being SP."""
        if number == ZERO_OR_SP:
            self.sp = None if value is None else value & (_WORD if wide else _HALF)
        else:
            self.write(number, value, wide)

    def forget_general(self) -> None:
        """Make every general register, SP and the flags unknown."""
        self._general = [None] * len(self._general)
        self.sp = self.flags = None

    def forget(self, name: str) -> None:
        """Make the register called ``name`` unknown; ``NZCV`` stands for the flags."""
        number = _GENERAL.get(name)
        if number is not None:
            self._general[number] = None
        elif name == "SP":
            self.sp = None
        elif name == _PSTATE_FLAG_REGISTER:
            self.flags = None
        else:
            self._system[name] = None

    # System registers

    def read_system(self, name: str) -> int | None:
        """What ``MRS`` of ``name`` gives."""
        if name == _PSTATE_FLAG_REGISTER:
            return None if self.flags is None else with_flags(0, self.flags)
        if name in PSTATE_VIEWS:
            unknown = self._pstate is None or name in self._unknown_views
            return None if unknown else (self._pstate or 0) & PSTATE_VIEWS[name]
        if name == "SP_EL0" and self._pstate is not None and not uses_sp_elx(self._pstate):
            return self.sp
        return self.get(name)

    def write_system(self, name: str, value: int | None) -> None:
        """What ``MSR`` of ``name`` does."""
        if name == _PSTATE_FLAG_REGISTER:
            self.flags = None if value is None else flags_of(value)
        elif name == "SPSel":
            self._select_stack(value)
        elif name in PSTATE_VIEWS:
            self._write_view(name, value)
        elif name == "SP_EL0" and self._pstate is not None and not uses_sp_elx(self._pstate):
            self.sp = value
        else:
            self._system[name] = value

    def _write_view(self, name: str, value: int | None) -> None:
        if self._pstate is None:
            return
        if value is not None:
            self._pstate = self._pstate & ~PSTATE_VIEWS[name] | value & PSTATE_VIEWS[name]
            self._unknown_views -= {name}
        elif name in _DECIDES_TRANSLATION:
            self._pstate = None
        else:
            self._unknown_views |= {name}

    def _select_stack(self, value: int | None) -> None:
        if self._pstate is None or value is None:
            self.sp = None
            return
        self._system[stack_register(self._pstate)] = self.sp
        self._write_view("SPSel", value)
        self.sp = self.get(stack_register(self._pstate))

    def return_to(self, pstate: int, pc: int) -> None:
        """What ERET does: take PSTATE from ``pstate`` (the layout of SPSR_ELx, AArch64) and go on at ``pc``."""
        if self._pstate is not None:
            self._system[stack_register(self._pstate)] = self.sp
        self._pstate, self._unknown_views = pstate, frozenset()
        self.flags = flags_of(pstate)
        self.sp = self.get(stack_register(pstate))
        self.pc = pc
