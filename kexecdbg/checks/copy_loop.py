"""The copy loop of relocation code and what follows it, found by decoding: no symbol and no layout is assumed.

The loop is the code that can come back to itself and stores to memory. Which registers hold the argument pointer is
followed from where their values are known; where two paths disagree, a register counts as holding something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, LoadStore, load_store
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import (
    INSTRUCTION_SIZE,
    Flow,
    Instruction,
    ReachableCode,
    reachable_code,
    written_registers,
)
from kexecdbg.kexec.page_list import ENTRY_SIZE

_LONGEST_CODE = 2048
"""Instructions: twice what fits into the control code page."""
_CALL_CLOBBERS = frozenset({*(f"X{number}" for number in range(19)), "X30"})
"""AAPCS64 6.1.1: what a called function need not preserve."""


@dataclass(frozen=True)
class ArgumentRead:
    """A load from the argument.

    Attributes:
        instruction: the load.
        offset: first byte it reads, from the start of the argument.
        size: bytes.
    """

    instruction: Instruction
    offset: int
    size: int


@dataclass(frozen=True)
class CopyLoop:
    """The copy loop in decoded code.

    Attributes:
        code: everything that was decoded.
        loop: the instructions of the loop, by address.
        after: those that can be reached from it and do not lead back, by address.
        argument_reads: loads from the argument in the loop and after it, by address.
    """

    code: ReachableCode
    loop: tuple[Instruction, ...]
    after: tuple[Instruction, ...]
    argument_reads: tuple[ArgumentRead, ...]

    @property
    def exception_calls(self) -> tuple[Instruction, ...]:
        """The ``hvc``, ``smc`` and ``svc`` after the loop."""
        return tuple(each for each in self.after if each.flow is Flow.EXCEPTION)

    @property
    def uses_stack(self) -> bool:
        """Whether the loop, or what follows it, accesses the stack."""
        accesses = (load_store(each.word) for each in (*self.loop, *self.after))
        return any(access is not None and access.base_name == "SP" for access in accesses)

    @property
    def next_entry_load(self) -> Instruction | None:
        """The load of the next entry of the page list: one register, and the pointer moves on."""
        for each in self.loop:
            moved = load_store(each.word)
            if (
                moved is not None
                and moved.access is Access.READ
                and moved.indexing is Indexing.POST
                and (moved.elements, moved.offset) == (1, ENTRY_SIZE)
            ):
                return each
        return None

    def first_access(self, access: Access) -> Instruction | None:
        """The loop's first load or store of several registers at once, which is how pages are copied."""
        for each in self.loop:
            moved = load_store(each.word)
            if moved is not None and moved.access is access and moved.elements > 1:
                return each
        return None


def find_copy_loop(fetch: Callable[[int], int], start: int, argument_registers: Iterable[str]) -> CopyLoop | None:
    """The copy loop in the code from ``start`` on; ``None`` when there is none in what can be followed.

    Args:
        fetch: the instruction word at a virtual address; raises MemoryUnreadableError.
        start: virtual address of the first instruction.
        argument_registers: registers that point to the argument there, ``X0``.
    """
    code = reachable_code(fetch, [start], _LONGEST_CODE)
    loop = _storing_cycle(code.instructions)
    if not loop:
        return None
    after = _reachable(code.instructions, loop) - loop
    held = _registers_with_argument(code.instructions, start, frozenset(argument_registers))
    reads = []
    for address in sorted(loop | after):
        instruction = code.instructions[address]
        moved = load_store(instruction.word)
        if moved is not None and _reads_through(moved, held.get(address, frozenset())):
            reads.append(ArgumentRead(instruction, moved.offset, moved.total))
    return CopyLoop(
        code,
        tuple(code.instructions[address] for address in sorted(loop)),
        tuple(code.instructions[address] for address in sorted(after)),
        tuple(reads),
    )


def _reads_through(moved: LoadStore, held: frozenset[str]) -> bool:
    return moved.access is Access.READ and not moved.prefetch and moved.index is None and moved.base_name in held


def _storing_cycle(instructions: Mapping[int, Instruction]) -> frozenset[int]:
    """The largest strongly connected part of the code that stores to other memory than the stack; empty without one."""
    found: frozenset[int] = frozenset()
    for part in _cycles(instructions):
        accesses = (load_store(instructions[address].word) for address in part)
        stores = any(
            each is not None and each.access is Access.WRITE and not each.prefetch and each.base_name != "SP"
            for each in accesses
        )
        if stores and len(part) > len(found):
            found = part
    return found


def _cycles(instructions: Mapping[int, Instruction]) -> list[frozenset[int]]:
    """Strongly connected components with a cycle (Tarjan, without recursion)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[frozenset[int]] = []
    for root in instructions:
        if root in order:
            continue
        work = [(root, iter(_successors(instructions, root)))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, children = work[-1]
            child = next((each for each in children if each not in order or each in on_stack), None)
            if child is not None and child not in order:
                order[child] = low[child] = len(order)
                stack.append(child)
                on_stack.add(child)
                work.append((child, iter(_successors(instructions, child))))
            elif child is not None:
                low[node] = min(low[node], order[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    part = frozenset(stack[stack.index(node) :])
                    del stack[stack.index(node) :]
                    on_stack -= part
                    if len(part) > 1 or node in _successors(instructions, node):
                        found.append(part)
    return found


def _successors(instructions: Mapping[int, Instruction], address: int) -> list[int]:
    """Where execution goes on within the function; a call counts as returning."""
    instruction = instructions[address]
    following = (address + INSTRUCTION_SIZE,) if instruction.flow is Flow.CALL else instruction.successors()
    return [each for each in following if each in instructions]


def _reachable(instructions: Mapping[int, Instruction], starts: Iterable[int]) -> frozenset[int]:
    seen = set(starts)
    queue = list(seen)
    while queue:
        for following in _successors(instructions, queue.pop()):
            if following not in seen:
                seen.add(following)
                queue.append(following)
    return frozenset(seen)


def _registers_with_argument(
    instructions: Mapping[int, Instruction], start: int, registers: frozenset[str]
) -> dict[int, frozenset[str]]:
    """For each instruction, the registers that point to the argument whatever way it was reached."""
    held = {start: registers}
    queue = [start]
    while queue:
        address = queue.pop()
        if address not in instructions:
            continue
        leaving = _after(instructions[address], held[address])
        for following in _successors(instructions, address):
            joined = leaving if following not in held else held[following] & leaving
            if following not in held or joined != held[following]:
                held[following] = joined
                queue.append(following)
    return held


def _after(instruction: Instruction, held: frozenset[str]) -> frozenset[str]:
    """The registers that hold the argument pointer after ``instruction``."""
    if instruction.flow is Flow.CALL:
        return held - _CALL_CLOBBERS
    left = held - written_registers(instruction.word, instruction.address)
    copied = _moved(instruction.word)
    if copied is not None and copied[1] in held:
        return left | {copied[0]}
    return left


def _moved(word: int) -> tuple[str, str] | None:
    """Target and source of ``mov xd, xm``: ORR (shifted register) of XZR, or ``add xd, xn, #0`` (Arm ARM C6.2)."""
    if word & 0xFFE0_FFE0 == 0xAA00_03E0:
        return f"X{bits(word, 4, 0)}", f"X{bits(word, 20, 16)}"
    if word & 0xFFFF_FC00 == 0x9100_0000:
        return f"X{bits(word, 4, 0)}", f"X{bits(word, 9, 5)}"
    return None
