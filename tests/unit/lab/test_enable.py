"""The enable guest as it is laid out: registers, tables and program, read back by the walker and by capstone."""

from __future__ import annotations

import itertools

import pytest

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule
from kexecdbg.arm64.instructions import decode_instruction
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import walk
from kexecdbg.errors import EnvironmentProblem
from kexecdbg.lab.enable import BASE, CODE, LITERALS, UART, VECTORS, EnableCase, EnableSetup
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState

FORMATS = [(GRANULE_4K, 48, 3), (GRANULE_4K, 39, 2), (GRANULE_16K, 47, 3), (GRANULE_16K, 36, 2), (GRANULE_64K, 42, 3)]


def quad(guest: LabGuest, symbol: str) -> int:
    """A parameter of the guest."""
    return int.from_bytes(BytesMemory(guest.image.pieces).read(guest.program.symbols[symbol], 8), "little")


def state_after_the_switch(guest: LabGuest, regime: Regime) -> CpuState:
    """The registers that the textbook's sequence leaves, of a CPU with 48-bit addresses and all granules."""
    facts = regime.facts
    return CpuState(
        {
            facts.mair: quad(guest, "lab_mair"),
            facts.tcr: quad(guest, "lab_tcr"),
            facts.ttbr0: quad(guest, "lab_ttbr0"),
            facts.sctlr: quad(guest, "lab_sctlr"),
            "HCR_EL2": quad(guest, "lab_hcr_el2"),
            "ID_AA64PFR0_EL1": 0x1111,
            "ID_AA64MMFR0_EL1": 0x0010_0005,
            "ID_AA64MMFR1_EL1": 1 << 8,
            "ID_AA64MMFR2_EL1": 0,
            "ID_AA64MMFR3_EL1": 0,
            "ID_AA64MMFR4_EL1": 0,
        }
    )


@pytest.mark.parametrize(
    ("regime", "granule", "input_bits", "level"), [(regime, *table) for regime in Regime for table in FORMATS]
)
def test_everything_the_program_touches_is_mapped_to_itself(
    regime: Regime, granule: Granule, input_bits: int, level: int
) -> None:
    guest = EnableCase(regime, granule=granule, input_bits=input_bits, leaf_level=level).build()
    state, memory = state_after_the_switch(guest, regime), BytesMemory(guest.image.pieces)
    argument, root, stack = (quad(guest, f"lab_{name}") for name in ("argument", "ttbr0", "sp"))
    code, data, device = (False, True), (True, False), (True, False)  # (write, execute)
    for va, rights in (
        (CODE, code),
        (LITERALS, code),
        (VECTORS, code),
        (VECTORS + 0x780, code),
        (argument, data),
        (root, data),
        (stack - 16, data),
        (UART, device),
    ):
        result = walk(state, memory, va, regime=regime)
        assert result.pa == va
        privileged = result.privileged
        assert privileged.read.allowed is True
        assert (privileged.write.allowed, privileged.execute.allowed) == rights
        if regime.facts.two_ranges:
            assert result.user is not None and result.user.read.allowed is False


@pytest.mark.parametrize("regime", Regime)
def test_the_code_under_test_runs_the_sequence_it_was_given(regime: Regime) -> None:
    lines = ("mov x9, #1", "isb", "dsb sy")
    guest = EnableCase(regime, sequence=lines).build()
    memory, start = BytesMemory(guest.image.pieces), guest.program.symbols["enable_sequence"]
    words = [int.from_bytes(memory.read(start + 4 * number, 4), "little") for number in range(len(lines))]
    assert [decode_instruction(word, start).text for word in words] == ["mov x9, #1", "isb", "dsb sy"]
    assert guest.program.symbols["enabled"] == start + 4 * len(lines)


@pytest.mark.parametrize(
    ("regime", "registers"),
    [
        (Regime.EL1_0, ["mair_el1", "tcr_el1", "ttbr0_el1", "tlbi vmalle1", "sctlr_el1"]),
        (Regime.EL2, ["mair_el2", "tcr_el2", "ttbr0_el2", "tlbi alle2", "sctlr_el2"]),
        (Regime.EL2_0, ["mair_el2", "tcr_el2", "ttbr0_el2", "tlbi alle2", "sctlr_el2"]),
        (Regime.EL3, ["mair_el3", "tcr_el3", "ttbr0_el3", "tlbi alle3", "sctlr_el3"]),
    ],
)
def test_the_textbook_sequence_uses_the_registers_of_the_regime(regime: Regime, registers: list[str]) -> None:
    guest = EnableCase(regime).build()
    symbols, memory = guest.program.symbols, BytesMemory(guest.image.pieces)
    addresses = range(symbols["enable_sequence"], symbols["enabled"], 4)
    texts = [decode_instruction(int.from_bytes(memory.read(a, 4), "little"), a).text for a in addresses]
    positions = [next(i for i, text in enumerate(texts) if name in text) for name in registers]
    assert positions == sorted(positions)
    assert "isb" in texts[positions[-1] - 1] and "isb" in texts[positions[-1] + 1]


@pytest.mark.parametrize(("regime", "spsr"), [(Regime.EL1_0, 0x3C5), (Regime.EL2, 0x3C9), (Regime.EL3, 0x3CD)])
def test_the_code_runs_at_the_level_of_the_regime(regime: Regime, spsr: int) -> None:
    guest = EnableCase(regime).build()
    assert quad(guest, "lab_spsr") == spsr
    assert ("secure=on" in guest.machine) is (regime is Regime.EL3)


@pytest.mark.parametrize(
    ("highest_el", "machine"),
    [(1, "virtualization=off"), (3, "virtualization=on,secure=on"), (None, "virtualization=on")],
)
def test_a_machine_may_start_higher_or_lack_el2(highest_el: int | None, machine: str) -> None:
    assert EnableCase(Regime.EL1_0, highest_el=highest_el).build().machine == machine


@pytest.mark.parametrize(
    ("case", "cpu"),
    [
        (EnableCase(), "cortex-a57"),
        (EnableCase(Regime.EL2_0), "neoverse-n1"),
        (EnableCase(granule=GRANULE_16K, input_bits=47), "neoverse-n1"),
        (EnableCase(wide=True, input_bits=52), "max"),
        (EnableCase(model="cortex-a72"), "cortex-a72"),
    ],
)
def test_the_cpu_has_what_the_case_needs(case: EnableCase, cpu: str) -> None:
    assert case.cpu == cpu


def test_a_defect_sees_and_changes_everything_before_it_is_loaded() -> None:
    seen: list[int] = []

    def spoil(setup: EnableSetup) -> None:
        seen.append(setup.registers.sp - setup.stack)
        setup.registers.mair = 0x1234
        setup.change_leaf(CODE, set_bits=1 << 54)
        setup.image.patch(setup.argument, bytes(8))

    guest = EnableCase(defect=spoil).build()
    assert seen == [0x1000]
    assert quad(guest, "lab_mair") == 0x1234
    assert quad(guest, "argument") == 0
    state = state_after_the_switch(guest, Regime.EL2)
    assert walk(state, BytesMemory(guest.image.pieces), CODE, regime=Regime.EL2).fault_for(Access.FETCH) is not None


def test_parts_do_not_share_pages_of_any_granule_nor_blocks_with_data() -> None:
    for granule, level in ((GRANULE_64K, 3), (GRANULE_64K, 2), (GRANULE_4K, 1)):
        parts: list[int] = []

        def note(setup: EnableSetup, parts: list[int] = parts) -> None:
            parts += [BASE, setup.stack, setup.argument, setup.table_area]

        EnableCase(granule=granule, leaf_level=level, defect=note).build()
        size = 1 << granule.level_shift(level)
        assert all(later // size > earlier // size for earlier, later in itertools.pairwise(parts))


def test_a_sequence_the_assembler_refuses_is_reported_with_its_line() -> None:
    with pytest.raises(EnvironmentProblem, match=r"enable_sequence\.s:2: Error: .*tcr_el9"):
        EnableCase(sequence=("isb", "msr tcr_el9, x2")).build()
