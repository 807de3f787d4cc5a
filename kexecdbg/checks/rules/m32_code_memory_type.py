"""M32: AttrIndx leads through MAIR_ELx to a memory type that code cannot have."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bits, field_mask
from kexecdbg.arm64.memory_types import CachePolicy, MemoryType, memory_type_of_mair_byte
from kexecdbg.arm64.walk import Walk
from kexecdbg.checks.finding import DescriptorRepair, Finding, RegisterRepair, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_ATTR_INDX = (4, 2)
_NORMAL_WRITE_BACK = 0xFF
_MT_NORMAL = {
    4: "AttrIndx 4 is MT_NORMAL in Linux 5.3, but MT_DEVICE_nGnRE in 6.1",
    0: "AttrIndx 0 is MT_NORMAL in Linux 6.1, but MT_DEVICE_nGnRnE in 5.3",
}
"""Linux arch/arm64/include/asm/memory.h, MT_*: the order changed in between."""


def _check(situation: Situation) -> Iterator[Finding]:
    reported: set[int] = set()
    for what, walk in (("next fetch", situation.fetch), ("exception vector", situation.vector_fetch)):
        if walk.memory_type is None or not walk.levels or walk.levels[-1].address in reported:
            continue
        if walk.memory_type.predictable and not walk.memory_type.is_device:
            continue
        reported.add(walk.levels[-1].address)
        yield _finding(situation, what, walk, walk.memory_type)


def _finding(situation: Situation, what: str, walk: Walk, memory_type: MemoryType) -> Finding:
    register = situation.regime.facts.mair
    leaf = walk.levels[-1]
    mair = situation.after.require(register, "the memory type")
    index = bits(leaf.descriptor or 0, *_ATTR_INDX)
    byte = mair >> 8 * index & 0xFF
    hint = f" {_MT_NORMAL[index]}: tables and MAIR may come from different versions." if index in _MT_NORMAL else ""
    return Finding(
        "M32",
        Severity.HAZARD,
        f"The {what}, {walk.va:#x}, is in {memory_type.text} memory: its descriptor has AttrIndx {index}, and byte "
        f"{index} of {register} is {byte:#04x}. A fetch from there may take a Permission fault, and is never cached."
        f"{hint}{remark('M32')}",
        {
            "address": leaf.address,
            "level": leaf.level,
            "descriptor": leaf.descriptor,
            "register": register,
            "field": f"Attr{index}",
            "value": byte,
        },
        _repair(situation, register, mair, index, walk),
    )


def _repair(
    situation: Situation, register: str, mair: int, index: int, walk: Walk
) -> DescriptorRepair | RegisterRepair | None:
    """Another index for this leaf if MAIR has Normal Write-Back memory at one, else another byte in MAIR."""
    leaf = walk.levels[-1]
    better = next((other for other in range(8) if _is_write_back(mair >> 8 * other & 0xFF)), None)
    if better is None:
        new = mair & ~(0xFF << 8 * index) | _NORMAL_WRITE_BACK << 8 * index
        return change_register(situation, register, new, f"makes Attr{index} Normal Write-Back")
    if leaf.descriptor is None:
        return None
    changed = leaf.descriptor & ~field_mask(*_ATTR_INDX) | better << _ATTR_INDX[1]
    if not situation.cures_fetch(words={leaf.address: changed}):
        return None
    return DescriptorRepair(leaf.address, leaf.descriptor, changed, f"sets AttrIndx to {better}, Normal Write-Back")


def _is_write_back(byte: int) -> bool:
    memory_type = memory_type_of_mair_byte(byte)
    halves = (memory_type.inner, memory_type.outer)
    return all(half is not None and half.policy is CachePolicy.WRITE_BACK for half in halves)


RULE = Rule(
    "M32",
    "The code is mapped as Device or reserved memory",
    "A leaf does not hold its memory type but AttrIndx, an index into MAIR_ELx. Tables made for one MAIR and used with "
    "another, or a MAIR that was never written, make code Device memory: a fetch then behaves as Normal Non-cacheable "
    "or takes a Permission fault, as the CPU likes.",
    (
        "Arm ARM D8.6.2 (stage 1 memory type), B2.10.2; MAIR_EL1",
        "Linux arch/arm64/include/asm/memory.h: MT_NORMAL is index 4 in 5.3 and 0 in 6.1",
        "U-Boot d7ef23c07b8; aarch64-paging 06ff95e",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Works in QEMU; on hardware very slow, or a freeze with a Permission fault whose descriptor looks right.",
)
