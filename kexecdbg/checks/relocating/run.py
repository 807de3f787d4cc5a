"""The relocation, driven from landmark to landmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.arm64.regimes import Regime, current_el, mmu_enabled, regime_of
from kexecdbg.arm64.vectors import VectorKind, VectorSource, in_vectors, vectors_base
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.relocating.control import RelocationControl
from kexecdbg.checks.relocating.landmarks import (
    ENTRIES,
    Landmark,
    LandmarkKind,
    ListLoad,
    kernel_entry,
    landmarks,
    list_load,
)
from kexecdbg.checks.relocating.other_cpus import running_cpus
from kexecdbg.checks.relocating.phases import Moment, phases, read_counter
from kexecdbg.checks.relocating.report import Outcome, Report, Stop, WrongTurn
from kexecdbg.checks.relocating.run_to_code import REBOOT, AtRelocationCode
from kexecdbg.checks.relocating.switch_check import check_switch
from kexecdbg.checks.stuck.diagnosis import diagnose
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import UsageError
from kexecdbg.kexec.argument import Role
from kexecdbg.kexec.boot_protocol import BootCheck, boot_checks
from kexecdbg.kexec.page_contents import PageComparison, PageContents

_NOT_MASKED = (VectorKind.SYNCHRONOUS, VectorKind.SERROR)
"""The exceptions that a relocation can take: its IRQ and FIQ are masked."""

_START = "start"
_ARRIVED = "arrived"
_CONSOLE = "console"
_SPANS = (
    ("shutdown", REBOOT, LandmarkKind.CODE.name),
    ("relocation", LandmarkKind.CODE.name, LandmarkKind.ENTRY.name),
    ("copy", _START, LandmarkKind.LOOP_END.name),
    ("purgatory", LandmarkKind.ENTRY.name, LandmarkKind.KERNEL.name),
    ("start-up", _ARRIVED, _CONSOLE),
)

Watch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Corruption:
    """A byte to be inverted when its page has been copied, to see that it is found.

    Attributes:
        copy: number of the copy in the order of the list, from 0.
        offset: of the byte in its page.
    """

    copy: int
    offset: int


class RelocationRun:
    """One relocation from its first instruction to the new kernel's.

    Args:
        control: the machine, stopped at the relocation code.
        at_code: where the CPU is, and how it got there.

    Raises:
        UsageError: the page list copies nothing.
        MemoryUnreadableError: a source page cannot be read.
    """

    def __init__(self, control: RelocationControl, at_code: AtRelocationCode) -> None:
        relocation = at_code.relocation
        loop = relocation.loop
        assert loop is not None
        pages = relocation.pages
        if not len(pages.copies):
            raise UsageError("the page list copies nothing: the image lies in place")
        self._control = control
        self._relocation = relocation
        self._list_load: ListLoad | None = list_load(loop)
        # The registers belong to this stop: what depends on them is worked out now.
        self._audit = relocation.audit
        self._pending = list(landmarks(relocation, loop))
        self._start_el = current_el(relocation.before)
        self._frequency = relocation.before.get("CNTFRQ_EL0")
        self._moments = [*at_code.moments, Moment(LandmarkKind.CODE.name, read_counter(control))]
        self._code = relocation.next_pc
        self.contents = PageContents(pages, control.memory)
        self._running_cpus = running_cpus(control, relocation)
        self._stops: list[Stop] = []
        self._copied = 0
        self._loads_passed = 0
        self._corruption: Corruption | None = None
        self._comparison: PageComparison | None = None
        self._boot: tuple[BootCheck, ...] = ()
        self._wrong_turn: WrongTurn | None = None
        self._outcome = Outcome.UNDER_WAY
        self._start_here()

    @property
    def pages(self) -> int:
        """How many pages are copied in all."""
        return len(self._relocation.pages.copies)

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self._relocation.pages.page_size

    @property
    def ended(self) -> bool:
        """Whether it has nowhere to go from here."""
        return self._outcome in (Outcome.ARRIVED, Outcome.WRONG_TURN)

    @property
    def end(self) -> int | None:
        """The PC where it ended; ``None`` while it is under way."""
        if self._wrong_turn is not None:
            return self._wrong_turn.diagnosis.pc
        return self._stops[-1].landmark.address if self.ended else None

    @property
    def blocking(self) -> Verdict | None:
        """The verdict on the write that the run has stopped before."""
        check = self._stops[-1].check if self._stops else None
        return check.verdict if check is not None and self._outcome is Outcome.BLOCKED else None

    def corrupt(self, corruption: Corruption) -> None:
        """Invert a byte at the end of the copy.

        Raises:
            UsageError: there is no such page, or the copy is over.
        """
        if not 0 <= corruption.copy < self.pages or not 0 <= corruption.offset < self.page_size:
            raise UsageError(
                f"--corrupt {corruption.copy}+{corruption.offset:#x}: pages are 0 to {self.pages - 1}, "
                f"offsets 0 to {self.page_size - 1:#x}"
            )
        if self._comparison is not None and self._copied == self.pages:
            raise UsageError("--corrupt: the copy is over")
        self._corruption = corruption

    def proceed(
        self,
        *,
        pages: int | None = None,
        force: bool = False,
        seconds: float | None = None,
        watch: Watch = nullcontext,
    ) -> Report:
        """Run to the new kernel's first instruction, or until ``pages`` more pages are copied.

        Args:
            pages: how many; ``None`` for all.
            force: execute also a write that the CPU will not survive.
            seconds: bound of each run between two stops.
            watch: what goes on around the runs that copy; it may look at memory, not at registers.

        Raises:
            UsageError: the relocation has ended.
            TargetError: the machine ended.
        """
        if self.ended:
            raise UsageError(f"this relocation is over: {self._outcome.value}")
        if pages is not None and self._list_load is None:
            raise UsageError("--pages: the copy loop does not go through the page list entry by entry")
        over = self._copied == self.pages
        goal = None if pages is None or over else min(self._copied + pages, self.pages)
        self._check_again()
        while not self._finished(force):
            pc = self._run(goal, seconds, watch)
            if self._arrived_at(pc):
                if goal is None or self._copied < self.pages:
                    continue
                self._comparison = self.contents.compare(self._control.memory)
                break
            if goal is not None and self._list_load is not None and pc == self._list_load.instruction.address:
                self._copied = goal
                self._comparison = self.contents.compare(self._control.memory, goal)
                break
            self._turned_wrong(pc)
            break
        return self.report()

    def at_console(self) -> Report:
        """What is known now that the new kernel has printed its first line, the machine stopped there."""
        self._moments.append(Moment(_CONSOLE, read_counter(self._control)))
        return self.report()

    def report(self) -> Report:
        """What is known now."""
        return Report(
            self._outcome,
            self._relocation.argument,
            self._code,
            self._audit,
            self.pages,
            self.page_size,
            self._copied,
            tuple(self._stops),
            self._running_cpus,
            self._comparison,
            self._boot,
            tuple(phases(self._moments, _SPANS, self._frequency)),
            self._wrong_turn,
        )

    # On the way.

    def _start_here(self) -> None:
        """The relocation code's first instruction is a landmark; it may be one of the others as well."""
        self._stops.append(self._stop(Landmark(LandmarkKind.CODE, self._code)))
        self._arrived_at(self._code)

    def _check_again(self) -> None:
        """Look once more at the switch that the run is stopped before: its tables may have been repaired."""
        if self._outcome is Outcome.BLOCKED:
            self._stops.append(self._stop(self._stops.pop().landmark))
        self._wrong_turn = None
        self._outcome = Outcome.UNDER_WAY

    def _finished(self, force: bool) -> bool:
        if self.ended:
            return True
        check = self._stops[-1].check
        at_switch = self._control.state().get("PC") == self._stops[-1].landmark.address
        stops = check is not None and (check.sound is False or bool(check.reasons_to_stop))
        if stops and at_switch and not force:
            self._outcome = Outcome.BLOCKED
            return True
        return False

    def _run(self, goal: int | None, seconds: float | None, watch: Watch) -> int:
        stops = {landmark.address for landmark in self._pending} | self._exceptions()
        passes: dict[int, int] = {}
        # Every entry counted is a stop; for the last one there is the end of the loop.
        if goal is not None and self._list_load is not None and goal < self.pages:
            # The load comes once after each entry; the head, entry 0, is not loaded by it.
            loads = int(self._relocation.pages.copies.entries[goal - 1]) + 1
            address = self._list_load.instruction.address
            stops.add(address)
            passes[address] = loads - self._loads_passed - 1
        with watch():
            pc = self._control.run(stops, seconds, passes)
        if passes and pc in passes:
            self._loads_passed += passes[pc] + 1
        return pc

    def _exceptions(self) -> set[int]:
        """Vectors that nothing should come to while the relocation goes its way."""
        state = self._control.state()
        regime = regime_of(current_el(state), state)
        found = set(_vectors(state.get(regime.facts.vbar), VectorSource.SP_EL0, VectorSource.SP_ELX))
        if regime is Regime.EL1_0 and state.get(HAVE_EL2) != 0:
            found |= set(_vectors(state.get("VBAR_EL2"), VectorSource.LOWER_EL))
        return found

    def _arrived_at(self, pc: int) -> bool:
        """Whether ``pc`` is a landmark that may come now; what there is to do there is done."""
        here = [landmark for landmark in self._pending if landmark.address == pc]
        if any(landmark.kind is LandmarkKind.EL2_VECTOR for landmark in here) and not self._called_el2():
            return False
        for landmark in here:
            self._pending.remove(landmark)
            stop = self._stop(landmark)
            self._stops.append(stop)
            self._at(stop)
        return bool(here)

    def _called_el2(self) -> bool:
        return any(stop.landmark.kind is LandmarkKind.HVC for stop in self._stops)

    def _stop(self, landmark: Landmark) -> Stop:
        state = self._control.state()
        el = current_el(state)
        instruction = instruction_at(state, self._control.memory, landmark.address)
        check = (
            check_switch(instruction, state, self._control.memory)
            if landmark.kind in (LandmarkKind.TTBR, LandmarkKind.SCTLR)
            else None
        )
        return Stop(landmark, instruction.text, el, mmu_enabled(regime_of(el, state), state), check)

    def _at(self, stop: Stop) -> None:
        kind = stop.landmark.kind
        if kind in (LandmarkKind.TTBR, LandmarkKind.SCTLR):
            # The last switch before the loop is where the copy begins.
            if not self._copied:
                self._moments.append(Moment(_START, read_counter(self._control)))
        elif kind is LandmarkKind.LOOP_END:
            self._moments.append(Moment(kind.name, read_counter(self._control)))
            self._copied = self.pages
            self._do_corrupt()
        elif kind in ENTRIES:
            self._moments.append(Moment(kind.name, read_counter(self._control)))
            self._at_entry(kind)

    def _do_corrupt(self) -> None:
        if self._corruption is None:
            return
        memory = self._control.memory
        page = int(self._relocation.pages.copies.destinations[self._corruption.copy])
        byte = memory.read(page + self._corruption.offset, 1)[0]
        memory.write(page + self._corruption.offset, bytes([byte ^ 0xFF]))

    def _at_entry(self, kind: LandmarkKind) -> None:
        if kind is LandmarkKind.ENTRY:
            self._comparison = self.contents.compare(self._control.memory)
            image = kernel_entry(self._relocation)
            if image is not None and image != self._stops[-1].landmark.address:
                self._pending.append(Landmark(LandmarkKind.KERNEL, image))
                return
        device_tree = self._relocation.argument.get(Role.DEVICE_TREE) if kind is LandmarkKind.ENTRY else None
        self._boot = boot_checks(self._control.state(), self._control.memory, device_tree, self._expected_el())
        self._moments.append(Moment(_ARRIVED, self._moments[-1].ticks))
        self._outcome = Outcome.ARRIVED

    def _expected_el(self) -> int:
        return 2 if self._relocation.argument.get(Role.EL2_VECTORS) else self._start_el

    def _turned_wrong(self, pc: int) -> None:
        state = self._control.state()
        copied = self.contents.copied(self._control.memory) if not self._copied else self._copied
        self._copied = max(self._copied, copied)
        took_exception = pc in self._exceptions() or any(
            in_vectors(pc, state.get(name)) for name in ("VBAR_EL1", "VBAR_EL2")
        )
        last = self._stops[-1].landmark
        what = "an exception was taken" if took_exception else "the machine stopped before the next landmark"
        found = diagnose(state, self._control.memory)
        self._wrong_turn = WrongTurn(
            f"{what}, at {pc:#x}, after {last.kind.value} ({last.address:#x})", found, took_exception
        )
        self._outcome = Outcome.WRONG_TURN if took_exception or found.stuck else Outcome.INTERRUPTED


def _vectors(vbar: int | None, *sources: VectorSource) -> Iterator[int]:
    if vbar is not None:
        yield from (vectors_base(vbar) + source + kind for source in sources for kind in _NOT_MASKED)
