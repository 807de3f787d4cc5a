"""What the lab can boot: a guest laid out in RAM, and the recipe it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kexecdbg.lab.guest import GuestProgram
from kexecdbg.lab.image import RamImage


@dataclass(frozen=True)
class LabGuest:
    """A guest laid out in RAM, ready to load.

    Attributes:
        cpu: QEMU's CPU model.
        machine: properties of QEMU's ``virt`` machine.
        image: contents of RAM.
        program: what runs first, with symbols.
        vectors: VBAR_ELx of the level that the MMU is switched on at.
        rests_at: address where the guest stays when it has come to its end; ``None`` when it powers itself off.
        console: regular expression of the line that it prints before.
        judged_from: address that it is run to before it is judged; ``None`` for where it starts.
    """

    cpu: str
    machine: str
    image: RamImage
    program: GuestProgram
    vectors: int
    rests_at: int | None
    console: str
    judged_from: int | None = None


class GuestRecipe(Protocol):
    """What a guest is made from; one for each kind of guest."""

    @property
    def cpu(self) -> str:
        """QEMU's CPU model."""
        ...

    def build(self) -> LabGuest:
        """Lay the guest out.

        Raises:
            EnvironmentProblem: the cross binutils are missing.
        """
        ...
