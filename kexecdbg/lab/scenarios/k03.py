"""K03: the vectors that take the final hvc do not survive the copy, or do not get along on their own."""

from __future__ import annotations

from kexecdbg.lab.new_kernel import NEW_KERNEL
from kexecdbg.lab.relocation import Places, RelocationCase
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario
from kexecdbg.lab.relocation_v9 import EL2_VECTORS, RelocationV9Case, RelocationV9Setup
from kexecdbg.lab.scenario import SOUND, Scenario

_IN_THE_NEW_KERNEL = NEW_KERNEL + 0x3000
_HVC_VECTOR = 0x400
_LEFT_BEHIND = EL2_VECTORS + 0x4000
"""Where a handler outside the 2 KiB would be, had it been copied as well; there is nothing."""
_SAYS_NOTHING = ""


def _handler_left_behind(setup: RelocationV9Setup) -> None:
    distance = _LEFT_BEHIND - setup.program.symbols["el2_vectors_hvc"]
    setup.patch("el2_vectors_hvc", 0x1400_0000 | distance // 4)  # b . + distance


SCENARIOS = (
    Scenario("sound-v9", SOUND, "the relocation of 2020: at EL1, back to EL2 by hvc", RelocationV9Case()),
    Scenario(
        "K03",
        "K03",
        "the EL2 vectors lie in the new kernel's place: the final hvc goes to its data",
        RelocationV9Case(
            el2_vectors=_IN_THE_NEW_KERNEL, rests_at=_IN_THE_NEW_KERNEL + _HVC_VECTOR, console=_SAYS_NOTHING
        ),
        frozenset({"K03"}),
    ),
    Scenario(
        "K03-branch",
        "K03",
        "the copied EL2 vectors branch to a handler that was not copied with them",
        RelocationV9Case(defect=_handler_left_behind, rests_at=_LEFT_BEHIND, console=_SAYS_NOTHING),
        frozenset({"K03"}),
    ),
    relocation_scenario(
        "K03-own",
        "the relocation's own vectors lie in the new kernel's place",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, places=Places(vectors=_IN_THE_NEW_KERNEL)),
        "K03",
        qemu_lets_it_pass="only an exception during the copy would go there, and nothing causes one",
    ),
)
