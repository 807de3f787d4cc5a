"""Memory of a stub without physical addresses: read only where the CPU's addresses are proved to be physical."""

from __future__ import annotations

import pytest

from kexecdbg.errors import KexecdbgError, MemoryUnreadableError, TargetError
from kexecdbg.machine.cpu_view_memory import CpuViewMemory
from tests.unit.arm64.tables import Words, registers

ROOT, VA, ELSEWHERE = 0x5000_0000, 0x4030_1000, 0x4030_2000
EL2H, EL1H = 0x3C9, 0x3C5
LEAF = 0x703
"""Normal memory, Access flag, page."""
MMU_OFF = 0x30C5_1834


class CpuStub:
    """A stub that shows ``words`` by the CPU's addresses and knows no packet but m."""

    def __init__(self, words: dict[int, int]) -> None:
        self.memory = Words(words)
        self.packets: list[str] = []

    def packet(self, text: str, /) -> str:
        self.packets.append(text)
        if not text.startswith("m"):
            return ""
        address, size = (int(number, 16) for number in text[1:].split(","))
        return self.memory.read(address, size).hex()


def identity_tables() -> dict[int, int]:
    """VA and the pages of the tables themselves mapped to themselves, as far as one set of tables goes."""
    words: dict[int, int] = {ROOT: 0x5001_0003, 0x5001_0008: 0x5002_0003}
    words[0x5002_0000 + 8 * (VA >> 21 & 0x1FF)] = 0x5003_0003
    words[0x5003_0000 + 8 * (VA >> 12 & 0x1FF)] = VA | LEAF
    words[0x5002_0000 + 8 * (ROOT >> 21 & 0x1FF)] = ROOT | 0x701
    return words


def view(words: dict[int, int], **changes: int) -> tuple[CpuViewMemory, CpuStub]:
    stub = CpuStub(words)
    return CpuViewMemory(stub, lambda: registers(TTBR0_EL2=ROOT, PSTATE=EL2H) | changes), stub


def test_mmu_off_everything_is_physical() -> None:
    memory, _ = view({VA: 0x1122}, SCTLR_EL2=MMU_OFF)
    assert memory.read(VA, 8) == (0x1122).to_bytes(8, "little")
    assert ["EL2 MMU off" in remark for remark in memory.remarks()] == [True]
    memory.forget_uses()
    assert memory.remarks() == ()


def test_mmu_on_what_is_mapped_to_itself_by_tables_that_are() -> None:
    memory, stub = view(identity_tables() | {VA: 7})
    assert memory.read(VA, 8) == (7).to_bytes(8, "little")
    assert ["map pages to themselves" in remark for remark in memory.remarks()] == [True]
    packets = len(stub.packets)
    memory.read(VA, 8)
    assert len(stub.packets) == packets + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({0x5003_0000 + 8 * (VA >> 12 & 0x1FF): ELSEWHERE | LEAF}, "0x40301000 is mapped to 0x40302000"),
        ({0x5003_0000 + 8 * (VA >> 12 & 0x1FF): 0}, "0x40301000 is mapped nowhere"),
        ({0x5002_0000 + 8 * (ROOT >> 21 & 0x1FF): 0}, "is mapped nowhere"),
    ],
)
def test_mmu_on_anything_else_is_not_read(change: dict[int, int], said: str) -> None:
    memory, _ = view(identity_tables() | change)
    with pytest.raises(MemoryUnreadableError, match=said):
        memory.read(VA, 8)


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        ("", MemoryUnreadableError, "cannot read it"),
        ("E14", MemoryUnreadableError, r"it answers 'E14'"),
        ("E.not now", MemoryUnreadableError, "it answers 'E.not now'"),
        ("123", TargetError, "answered '123' to a read of 8 bytes"),
        ("xxxxxxxxxxxxxxxx", TargetError, "to a read of 8 bytes at 0x40301000"),
        ("11" * 9, TargetError, "to a read of 8 bytes"),
    ],
)
def test_answers_that_are_no_data(reply: str, error: type[KexecdbgError], said: str) -> None:
    memory, stub = view({}, SCTLR_EL2=MMU_OFF)
    stub.packet = lambda text: reply  # type: ignore[method-assign]
    with pytest.raises(error, match=said):
        memory.read(VA, 8)


def test_data_in_capital_letters_that_begins_like_a_refusal() -> None:
    memory, stub = view({}, SCTLR_EL2=MMU_OFF)
    stub.packet = lambda text: "E1" * 8  # type: ignore[method-assign]
    assert memory.read(VA, 8) == b"\xe1" * 8


def test_unknown_registers_are_named() -> None:
    stub = CpuStub({})
    memory = CpuViewMemory(stub, lambda: {"PSTATE": EL2H, "HCR_EL2": 0})
    with pytest.raises(MemoryUnreadableError, match="type --assume SCTLR_EL2=VALUE"):
        memory.read(VA, 8)
    assert stub.packets == []


def test_under_stage_2_no_address_is_physical() -> None:
    memory, _ = view({}, PSTATE=EL1H, SCTLR_EL1=0x30D0_1804, HCR_EL2=0x8000_0001)
    with pytest.raises(MemoryUnreadableError, match="stage 2 is on"):
        memory.read(VA, 8)


def test_proofs_end_when_the_cpu_has_run() -> None:
    stub, state = CpuStub(identity_tables()), registers(TTBR0_EL2=ROOT, PSTATE=EL2H, PC=VA)
    memory = CpuViewMemory(stub, lambda: state)
    memory.read(VA, 8)
    stub.memory.words[0x5003_0000 + 8 * (VA >> 12 & 0x1FF)] = 0
    state["PC"] += 4
    with pytest.raises(MemoryUnreadableError):
        memory.read(VA, 8)
