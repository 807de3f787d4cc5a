"""K08: the relocation code refers to what was not copied with it."""

from __future__ import annotations

from kexecdbg.lab.relocation import RELOCATION_CODE, RelocationCase, RelocationSetup
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario

_TAIL = RELOCATION_CODE + 0x2000
"""Where the code would go on if more than one page of it had been copied."""


def _branch(distance: int) -> int:
    """The instruction ``b . + distance`` (Arm ARM C6.2)."""
    return 0x1400_0000 | (distance // 4) % (1 << 26)


def _load_literal(register: int, distance: int) -> int:
    """The instruction ``ldr xREGISTER, . + distance`` (Arm ARM C6.2, LDR (literal))."""
    return 0x5800_0000 | (distance // 4) % (1 << 19) << 5 | register


def _tail_left_behind(setup: RelocationSetup) -> None:
    setup.patch("copy_done", _branch(_TAIL - setup.program.symbols["copy_done"]))


def _literal_left_behind(setup: RelocationSetup) -> None:
    setup.patch("copy_done", _load_literal(19, _TAIL - setup.program.symbols["copy_done"]))


SCENARIOS = (
    relocation_scenario(
        "K08",
        "the end of the relocation code is in a page that was not copied",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_tail_left_behind),
        "K08",
    ),
    relocation_scenario(
        "K08-literal",
        "at EL1, a literal of the relocation code was not copied with it",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, drop_to_el1=True, defect=_literal_left_behind),
        "K08",
    ),
)
