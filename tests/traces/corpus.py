"""What the recorded runs in this folder are of; ``record_all.py`` beside it makes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from kexecdbg.lab.scenario import SOUND, Scenario
from kexecdbg.lab.scenarios import all_scenarios

FOLDER = Path(__file__).parent


class Window(enum.Enum):
    """A part of a real kernel's course, by its name and how many steps it is recorded for."""

    KVM = "kvm", 60
    """KVM switches the MMU of EL2 on and returns to EL1."""
    JUMP = "jump", 80
    """From the relocation code's first instruction over its change of TTBR1 to the first pages copied."""
    EXIT = "exit", 40
    """From the end of the copy loop: MMU off, to EL2 if the kernel is not there, and into purgatory."""
    NEW_KERNEL = "new-kernel", 40
    """The second kernel's ``__enable_mmu``."""

    @property
    def steps(self) -> int:
        """How many are recorded."""
        return self.value[1]


RELOCATION = frozenset({Window.JUMP, Window.EXIT, Window.NEW_KERNEL})
"""The windows on the way from one kernel to the next."""


@dataclass(frozen=True)
class KernelTrace:
    """A recorded window of Debian's kernel.

    Attributes:
        kind: what the file's name begins with: ``nvhe`` or ``vhe``.
        cpu: QEMU's CPU model.
        window: the part of its course.
        switches: each instruction of the trace that changes a translation in use or switches the MMU on: the register
            that it writes, and the ids of all findings.
    """

    kind: str
    cpu: str
    window: Window
    switches: tuple[tuple[str, frozenset[str]], ...]

    @property
    def name(self) -> str:
        """The file's, without ending."""
        return f"{self.kind}-{self.window.value[0]}"


_NO_VECTORS = frozenset({"M05"})
"""VBAR_EL1 is set only after ``__enable_mmu``, in ``__primary_switched`` (Linux arch/arm64/kernel/head.S); and while
the relocation copies, TTBR1 has the linear map, but not the kernel's image with the vectors (trans_pgd_create_copy)."""
_JUMP_EL1 = (("TTBR1_EL1", _NO_VECTORS), ("TTBR1_EL1", _NO_VECTORS))
_JUMP_EL2 = (("TTBR1_EL2", _NO_VECTORS), ("TTBR1_EL2", _NO_VECTORS))

KERNELS = (
    KernelTrace("nvhe", "cortex-a57", Window.KVM, (("SCTLR_EL2", frozenset()),)),
    KernelTrace("nvhe", "cortex-a57", Window.JUMP, _JUMP_EL1),
    KernelTrace("nvhe", "cortex-a57", Window.EXIT, ()),
    KernelTrace("nvhe", "cortex-a57", Window.NEW_KERNEL, (("SCTLR_EL1", _NO_VECTORS),)),
    KernelTrace("vhe", "max", Window.JUMP, _JUMP_EL2),
    KernelTrace("vhe", "max", Window.EXIT, ()),
    KernelTrace("vhe", "max", Window.NEW_KERNEL, (("SCTLR_EL1", _NO_VECTORS),)),
)
"""What each window must have in it. Debian's kernel works: nothing in it is fatal."""

STARTS = {"K09": "arm64_relocate_new_kernel"}
"""Scenarios that are recorded from a symbol of the guest on. A trace has device registers as they were when it began,
and the guest of K09 sets the GIC up itself."""

FREEZE, REPAIRED = "freeze-2019", "repaired-2019"


def lab_traces() -> dict[str, Scenario]:
    """The traces of lab guests, by file name without ending: the mail's freeze, its repair, one for each entry."""
    scenarios = all_scenarios()
    entries = sorted({scenario.entry for scenario in scenarios.values()} - {SOUND})
    return {FREEZE: scenarios["A"], REPAIRED: scenarios["B"], **{entry: scenarios[entry] for entry in entries}}


def kernel_traces() -> dict[str, KernelTrace]:
    """The traces of Debian's kernel, by file name without ending."""
    return {trace.name: trace for trace in KERNELS}


def path_of(name: str) -> Path:
    """The file of a trace."""
    return FOLDER / f"{name}.kxt"
