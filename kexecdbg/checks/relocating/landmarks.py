"""Where a relocation can be stopped at, found by decoding the code where it was copied to."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, LoadStore, load_store
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import Flow, Instruction
from kexecdbg.checks.copy_loop import CopyLoop
from kexecdbg.checks.enable_site import writes_sctlr
from kexecdbg.checks.relocation import Relocation
from kexecdbg.kexec.argument import Role
from kexecdbg.kexec.boot_protocol import image_entry
from kexecdbg.kexec.page_list import ENTRY_SIZE

_LOWER_EL_SYNCHRONOUS = 0x400
"""Offset from VBAR_ELx of synchronous exceptions from a lower level in AArch64 (Arm ARM D1.3.1)."""


class LandmarkKind(enum.Enum):
    """What happens at a landmark; the value says it to users."""

    CODE = "relocation code"
    TTBR = "switch of the tables"
    SCTLR = "write to SCTLR"
    LOOP_END = "end of the copy"
    HVC = "call to EL2"
    BRANCH = "branch to the new kernel"
    EL2_VECTOR = "EL2 vector"
    ENTRY = "entry of the image"
    KERNEL = "entry of the new kernel"


ENTRIES = (LandmarkKind.ENTRY, LandmarkKind.KERNEL)


@dataclass(frozen=True)
class Landmark:
    """A place that the relocation comes by, once.

    Attributes:
        kind: what happens there.
        address: virtual address; equal to the physical one, as the code is mapped one to one where its MMU is on.
        text: its instruction, or empty where it is not known yet.
    """

    kind: LandmarkKind
    address: int
    text: str = ""


@dataclass(frozen=True)
class ListLoad:
    """The load of the next entry of the page list, ``ldr x16, [x14], #8``.

    Attributes:
        instruction: it.
        pointer: the register that holds the entry's virtual address before it, ``X14``.
    """

    instruction: Instruction
    pointer: str


def landmarks(relocation: Relocation, loop: CopyLoop) -> tuple[Landmark, ...]:
    """The landmarks from the present instruction to the new kernel's first one, in the order of their addresses."""
    found = sorted(_in_code(loop), key=lambda landmark: landmark.address)
    vectors = relocation.argument.get(Role.EL2_VECTORS)
    if vectors:
        found.append(Landmark(LandmarkKind.EL2_VECTOR, vectors + _LOWER_EL_SYNCHRONOUS))
    entry = relocation.argument.require(Role.ENTRY)
    return (*found, Landmark(LandmarkKind.ENTRY, entry))


def kernel_entry(relocation: Relocation) -> int | None:
    """Once the pages are copied, where the Linux Image begins among them; ``None`` when there is none.

    kexec_load() enters purgatory, which enters the Image (kexec-tools, purgatory/arch/arm64/entry.S).
    """
    return image_entry(relocation.memory, (start for start, _ in relocation.destinations))


def list_load(loop: CopyLoop) -> ListLoad | None:
    """The load in the copy loop that goes through the page list; ``None`` when there is no such load."""
    for instruction in loop.loop:
        moved = load_store(instruction.word)
        if moved is not None and _is_list_load(moved):
            return ListLoad(instruction, moved.base_name)
    return None


def _is_list_load(moved: LoadStore) -> bool:
    is_entry = moved.access is Access.READ and moved.elements == 1 and moved.size == ENTRY_SIZE
    return is_entry and moved.indexing is Indexing.POST and moved.offset == ENTRY_SIZE


def _in_code(loop: CopyLoop) -> Iterator[Landmark]:
    in_loop = {each.address for each in loop.loop}
    after = {each.address for each in loop.after}
    exits = {target for each in loop.loop for target in each.successors()} - in_loop
    for address in exits & after:
        yield Landmark(LandmarkKind.LOOP_END, address, loop.code.instructions[address].text)
    for instruction in loop.code.instructions.values():
        kind = _kind(instruction)
        if kind is not None and instruction.address not in in_loop:
            yield Landmark(kind, instruction.address, instruction.text)


def _kind(instruction: Instruction) -> LandmarkKind | None:
    move = instruction.system_move
    if move is not None and move.is_write and move.register.startswith(("TTBR0_EL", "TTBR1_EL")):
        return LandmarkKind.TTBR
    if writes_sctlr(instruction):
        return LandmarkKind.SCTLR
    if instruction.flow is Flow.EXCEPTION:
        return LandmarkKind.HVC
    return LandmarkKind.BRANCH if instruction.flow is Flow.INDIRECT else None
