"""K01: the argument lies where the new image goes, and is read after the copy."""

from __future__ import annotations

from kexecdbg.lab.new_kernel import NEW_KERNEL
from kexecdbg.lab.relocation import Places, RelocationCase
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario
from kexecdbg.lab.relocation_v9 import RelocationV9Case
from kexecdbg.lab.scenario import SOUND, Scenario

SCENARIOS = (
    relocation_scenario(
        "K01",
        "the argument on the new kernel's first page: the final branch goes to its number of words",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, places=Places(argument=NEW_KERNEL)),
        "K01",
    ),
    Scenario(
        "sound-v9-argument",
        SOUND,
        "the argument on the new kernel's first page, all of it read before the copy",
        RelocationV9Case(argument=NEW_KERNEL),
    ),
)
