"""What a replay answers to GDB's packets, on a small trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kexecdbg.errors import MemoryUnreadableError, TraceError
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from kexecdbg.machine.replayed_memory import replayed_memory
from kexecdbg.machine.word_search import FoundWords, WordPattern
from kexecdbg.qemu.memory_tree import parse_flat_memory_tree
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import Event, EventKind, ExceptionTaken, MemoryWrite
from kexecdbg.trace.replay.cursor import STEPS_AT_ONCE, Cursor, Stop, StopReason, state_named
from kexecdbg.trace.replay.packets import PacketAnswers
from kexecdbg.trace.replay.target_description import description_of
from kexecdbg.trace.replay.watchpoints import Span, WatchKind, Watchpoint, touching_steps
from kexecdbg.trace.writer import TraceWriter
from kexecdbg.ui.style import Style
from kexecdbg.ui.trace_text import step_line

CODE, DATA, RAM_END = 0x4000_0000, 0x4000_1000, 0x4800_0000
UART, UART_ID = 0x900_0000, 0x900_0FE0
ESR_TRANSLATION_FAULT = 0x8600_0005
REGIONS = (
    Region(0x900_0000, 0x900_1000, RegionKind.DEVICE, "pl011"),
    Region(CODE, RAM_END, RegionKind.RAM, "ram", 0x1000),
)
REGISTERS = (*(f"X{n}" for n in range(31)), "SP", "PC", "PSTATE", "SCTLR_EL1", "SCTLR_EL2", "HCR_EL2", "ESR_EL2")
EL2H, MOV_X1, STR_X1_X0, LDR_X2_X0, B_SELF = 0x3C9, 0xD28000A1, 0xF9000001, 0xF9400002, 0x14000000
MSR_SCTLR_EL2_X0 = 0xD51C_1000
CORE_BYTES = 33 * 8 + 4
FOLDED_STEP, STATES = 3, 6
PAGE = b"".join(word.to_bytes(4, "little") for word in (MOV_X1, STR_X1_X0, LDR_X2_X0, B_SELF)).ljust(4096, b"\xa5")
EMPTY, COPIED = bytes(4096), bytes(range(256)) * 16

Ask = Callable[[str], str]


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    """mov x1; str x1, [x0]; ldr x2, [x0]; a folded loop that copies a page onto DATA; an exception."""
    path = tmp_path / "small.kxt"
    header = TraceHeader(
        "stepping",
        REGISTERS,
        cpu_model="cortex-a57",
        qemu_version="7.2.22",
        regions=REGIONS,
        device_registers=((UART_ID, 4, 0x11),),
    )
    state = {"PC": CODE, "PSTATE": EL2H, "X0": DATA, "X1": 0, "SCTLR_EL2": 0, "HCR_EL2": 0, "SP": CODE}
    with TraceWriter(path, header, state) as writer:
        writer.see(CODE, PAGE)
        writer.see(DATA, EMPTY)
        writer.step(CODE + 4, MOV_X1, {"X1": 5})
        writer.step(CODE + 8, STR_X1_X0, {}, [MemoryWrite(DATA, DATA, 8, (5).to_bytes(8, "little"))])
        writer.step(CODE + 12, LDR_X2_X0, {"X2": 5})
        copied = Event(EventKind.PAGE_COPIED, CODE, DATA, 4096, 512)
        writer.step(CODE + 16, B_SELF, {}, events=[copied])
        writer.see(DATA, COPIED)
        to_uart = [MemoryWrite(UART, UART, 4, bytes(4))]
        fault = ExceptionTaken(2, 2, ESR_TRANSLATION_FAULT, CODE + 16, CODE + 16, EL2H)
        writer.step(CODE + 0x200, None, {"ESR_EL2": ESR_TRANSLATION_FAULT}, to_uart, fault)
    with Trace.open(path) as trace:
        yield trace


@pytest.fixture
def answers(trace: Trace) -> PacketAnswers:
    return PacketAnswers(Cursor(trace), description_of(trace.header))


@pytest.fixture
def ask(answers: PacketAnswers) -> Ask:
    return lambda packet: answers.answer(packet.encode())[0].decode()


def pc_of(answers: PacketAnswers) -> int:
    return int.from_bytes(bytes.fromhex(answers.answer(b"p20")[0].decode()), "little")


def monitor(answers: PacketAnswers, command: str) -> str:
    *output, end = answers.answer(b"qRcmd," + command.encode().hex().encode())
    assert end == b"OK" and all(piece.startswith(b"O") for piece in output)
    return b"".join(bytes.fromhex(piece[1:].decode()) for piece in output).decode()


def test_reverse_execution_is_offered(ask: Ask) -> None:
    assert {"ReverseStep+", "ReverseContinue+"} <= set(ask("qSupported:xmlRegisters=aarch64").split(";"))


def test_the_recorded_cpu_is_the_only_thread(tmp_path: Path) -> None:
    header = TraceHeader("stepping", REGISTERS, cpu=1, cpus=4)
    with TraceWriter(tmp_path / "one.kxt", header, {"PC": CODE}):
        pass
    with Trace.open(tmp_path / "one.kxt") as trace:
        answers = PacketAnswers(Cursor(trace), description_of(trace.header))
        asked = [answers.answer(packet)[0] for packet in (b"qkexecdbg.cpus", b"qfThreadInfo", b"qThreadExtraInfo,02")]
    assert asked == [b"4", b"m02", b"CPU#1 [running]".hex().encode()]


def test_threads_have_a_process_for_a_client_that_knows_processes(ask: Ask) -> None:
    assert ask("qfThreadInfo") == "m01"
    assert "multiprocess+" in ask("qSupported:multiprocess+;swbreak+").split(";")
    assert [ask(packet) for packet in ("qfThreadInfo", "qC", "?", "vCont;s:p1.1;c:p1.-1", "vCont;c")] == [
        "mp01.01",
        "QCp01.01",
        "T05thread:p01.01;",
        "T05thread:p01.01;",
        "T05replaylog:end;thread:p01.01;",
    ]


def test_registers_that_were_not_recorded_are_unavailable(ask: Ask) -> None:
    core = ask("g")
    assert len(core) == 2 * CORE_BYTES
    assert core[:32] == DATA.to_bytes(8, "little").hex() + "00" * 8
    assert core[32:48] == "xx" * 8
    assert ask("p21") == EL2H.to_bytes(4, "little").hex()
    assert ask("pffff") == "E14"


def test_the_description_names_the_system_registers(ask: Ask) -> None:
    whole = ask("qXfer:features:read:target.xml:0,ffff")
    assert whole.startswith("l") and '<reg name="SCTLR_EL2"' in whole
    assert ask("qXfer:features:read:target.xml:0,10") == "m" + whole[1:17]
    assert ask("qXfer:features:read:other.xml:0,10") == "E00"


def test_memory_is_as_it_was_in_the_state(ask: Ask) -> None:
    assert ask(f"m{CODE:x},8") == PAGE[:8].hex()
    before = ask(f"m{DATA:x},8")
    for _ in range(2):
        ask("vCont;s:1")
    assert (before, ask(f"m{DATA:x},8")) == ("00" * 8, "05" + "00" * 7)


@pytest.mark.parametrize("address", [DATA + 0x1000, RAM_END, 0x900_0000, 0, DATA + 0xFFF], ids=hex)
@pytest.mark.parametrize("physical", [0, 1])
def test_memory_that_was_not_recorded_is_an_error(ask: Ask, address: int, physical: int) -> None:
    assert ask(f"Qqemu.PhyMemMode:{physical}") == "OK"
    assert ask("qqemu.PhyMemMode") == str(physical)
    assert ask(f"m{address:x},8") == "E14"


SWITCH, COPY_OF_SWITCH, TOP = (0xD51C_1000).to_bytes(4, "little"), 0x4010_0008, 0x4010_0000
"""msr sctlr_el2, x0; where else it is; and memory that holds something and is not in the trace."""
FIND_SWITCHES = "qkexecdbg.find:0:ffffffe0-d51c1000"


@pytest.fixture
def searched(tmp_path: Path) -> Iterator[Trace]:
    """A store of the switch; one that is not followed; the machine was searched at the beginning and at the end."""
    path = tmp_path / "searched.kxt"
    header = TraceHeader("stepping", REGISTERS, regions=REGIONS)
    patterns = [WordPattern(0xFFFF_FFE0, 0xD51C_1000), WordPattern(0xFFFF_FFE0, 0xD518_1000)]
    copy = bytes(8) + SWITCH + bytes(4096 - 12)
    occupied = ((CODE, CODE + 4096), (TOP, TOP + 2 * 4096))
    with TraceWriter(path, header, {"PC": CODE, "PSTATE": EL2H}) as writer:
        for page, data in ((CODE, PAGE), (DATA, EMPTY), (TOP, copy)):
            writer.see(page, data)
        writer.searched(patterns, occupied)
        writer.step(CODE + 4, STR_X1_X0, {}, [MemoryWrite(DATA, DATA, 4, SWITCH)])
        writer.searched((), ())
        writer.step(CODE + 8, STR_X1_X0, {})
        writer.searched(patterns, ((CODE, DATA + 4096), (TOP, TOP + 2 * 4096)))
    with Trace.open(path) as trace:
        yield trace


def test_a_search_of_all_memory_finds_what_the_machine_s_would(searched: Trace) -> None:
    answers = PacketAnswers(Cursor(searched), description_of(searched.header))

    def ask(packet: str) -> str:
        return answers.answer(packet.encode())[0].decode()

    said = []
    for number in range(searched.steps + 1):
        answers.cursor.go(number)
        said.append(ask(FIND_SWITCHES))
    # Three pages hold something; the fourth, from the store on, is in the trace.
    everything = f"m2,4000,1:{DATA:x},{COPY_OF_SWITCH:x}"
    assert said == [f"m1,3000,1:{COPY_OF_SWITCH:x}", "l", everything]
    assert ask(FIND_SWITCHES.replace(":0:", ":1:")) == f"m2,4000,1:{COPY_OF_SWITCH:x}"
    assert ask("qkexecdbg.find:0:ffffffff-d503201f") == "l"  # nobody searched for NOPs
    ask("Qqemu.PhyMemMode:1")
    assert ask(f"m{TOP + 4096:x},8") == "E14"


class Stub:
    """The replay as a client has it; ``asked`` are the packets."""

    def __init__(self, answers: PacketAnswers) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def packet(self, text: str, /) -> str:
        self.asked.append(text)
        return self._answers.answer(text.encode())[0].decode()


def test_the_client_s_side(searched: Trace) -> None:
    stub = Stub(PacketAnswers(Cursor(searched, searched.steps), description_of(searched.header)))
    memory = replayed_memory(stub, MemoryMap(REGIONS))
    assert memory is not None
    assert memory.find_words([WordPattern(0xFFFF_FFE0, 0xD51C_1000)]) == FoundWords((DATA, COPY_OF_SWITCH), 0x4000)
    stub.asked.clear()
    with memory.many_reads():
        assert [memory.read(DATA + offset, 4) for offset in (0, 4, 0xFFC)] == [SWITCH, bytes(4), bytes(4)]
        with pytest.raises(MemoryUnreadableError, match="cannot read it"):
            memory.read(TOP + 4096, 4)
    # Each page is asked for once; one that is not there, then just for what is wanted of it.
    assert [packet for packet in stub.asked if packet.startswith("m")] == [
        f"m{DATA:x},1000",
        f"m{TOP + 4096:x},1000",
        f"m{TOP + 4096:x},4",
    ]


def test_memory_that_was_not_searched(ask: Ask) -> None:
    assert (ask("qkexecdbg.replay"), ask(FIND_SWITCHES)) == ("OK", "l")


def test_device_registers_until_the_device_is_written_to(ask: Ask, answers: PacketAnswers) -> None:
    ask("Qqemu.PhyMemMode:1")
    assert ask(f"m{UART_ID:x},4") == "11000000"
    assert (ask(f"m{UART_ID:x},8"), ask(f"m{UART:x},4")) == ("E14", "E14")
    answers.cursor.go(STATES - 2)
    assert ask(f"m{UART_ID:x},4") == "11000000"
    answers.cursor.go(STATES - 1)
    assert ask(f"m{UART_ID:x},4") == "E14"


@pytest.mark.parametrize("packet", ["P0=0500000000000000", f"M{DATA:x},1:00", "G00"])
def test_nothing_can_be_written(ask: Ask, packet: str) -> None:
    assert ask(packet) == "E.a trace is read only"


@pytest.fixture(params=[1, STEPS_AT_ONCE], ids=["one", "many"])
def steps_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are cut into parts, so that they can be interrupted."""
    monkeypatch.setattr("kexecdbg.trace.replay.cursor.STEPS_AT_ONCE", request.param)


@pytest.mark.usefixtures("steps_at_once")
def test_steps_forwards_and_backwards(ask: Ask, answers: PacketAnswers) -> None:
    assert ask("bs") == "T05replaylog:begin;thread:01;"
    assert ask("vCont;s:1;c") == "T05thread:01;"
    assert pc_of(answers) == CODE + 4
    assert ask("bs") == "T05thread:01;"
    assert pc_of(answers) == CODE
    assert ask("vCont;c") == "T05replaylog:end;thread:01;"
    assert pc_of(answers) == CODE + 0x200
    assert ask("s") == "T05replaylog:end;thread:01;"
    assert ask("bc") == "T05replaylog:begin;thread:01;"
    assert pc_of(answers) == CODE


def test_run_begins_again_where_the_client_began(trace: Trace) -> None:
    answers = PacketAnswers(Cursor(trace, 2), description_of(trace.header))

    def ask(*packets: bytes) -> list[bytes]:
        return [answers.answer(packet)[0] for packet in packets]

    assert ask(b"!", b"vCont;c", b"vKill;1", b"?", b"qfThreadInfo") == [
        b"OK",
        b"T05replaylog:end;thread:01;",
        b"OK",
        b"W00",
        b"l",
    ]
    assert ask(b"vRun;", b"qfThreadInfo") == [b"T05thread:01;", b"m01"]
    assert (answers.cursor.number, answers.ended) == (2, False)


@pytest.mark.usefixtures("steps_at_once")
@pytest.mark.parametrize("kind", ["0", "1"], ids=["software", "hardware"])
def test_breakpoints(ask: Ask, answers: PacketAnswers, kind: str) -> None:
    for address in (CODE + 4, CODE + 0x200):
        assert ask(f"Z{kind},{address:x},4") == "OK"
    stops = []
    for packet in ("vCont;c", "vCont;c", "bc", "bc"):
        stops.append((ask(packet), pc_of(answers)))
    assert stops == [
        ("T05thread:01;", CODE + 4),
        ("T05thread:01;", CODE + 0x200),
        ("T05thread:01;", CODE + 4),
        ("T05replaylog:begin;thread:01;", CODE),
    ]
    assert ask(f"z{kind},{CODE + 4:x},4") == "OK"
    ask("vCont;c")
    assert pc_of(answers) == CODE + 0x200


@pytest.mark.usefixtures("steps_at_once")
@pytest.mark.parametrize(
    ("kind", "name", "steps"),
    [("2", "watch", (1, FOLDED_STEP)), ("3", "rwatch", (2,)), ("4", "awatch", (1, 2, FOLDED_STEP))],
)
def test_watchpoints_stop_on_the_near_side_of_the_access(
    ask: Ask, answers: PacketAnswers, kind: str, name: str, steps: tuple[int, ...]
) -> None:
    stop = f"T05{name}:{DATA + 4:x};thread:01;"
    assert ask(f"Z{kind},{DATA + 4:x},4") == "OK"
    for step in steps:
        assert (ask("vCont;c"), answers.cursor.number) == (stop, step)
        assert (ask("vCont;s"), answers.cursor.number) == (stop, step)
        answers.cursor.go(step + 1)
    answers.cursor.go(STATES - 1)
    assert (ask("bc"), answers.cursor.number) == (stop, steps[-1] + 1)
    assert (ask("bs"), answers.cursor.number) == (stop, steps[-1] + 1)
    assert ask(f"z{kind},{DATA + 4:x},4") == "OK"
    assert ask("bc") == "T05replaylog:begin;thread:01;"


@pytest.mark.usefixtures("steps_at_once")
def test_watched_memory_is_where_it_was_when_the_run_began(tmp_path: Path) -> None:
    state = {"PC": CODE, "PSTATE": EL2H, "SCTLR_EL2": 0, "HCR_EL2": 0}
    with TraceWriter(tmp_path / "switch.kxt", TraceHeader("stepping", REGISTERS, regions=REGIONS), state) as writer:
        writer.see(DATA, EMPTY)
        writer.step(CODE + 4, MSR_SCTLR_EL2_X0, {"SCTLR_EL2": 1})
        writer.step(CODE + 8, B_SELF, {}, events=[Event(EventKind.PAGE_COPIED, CODE, DATA, 4096, 512)])
        writer.see(DATA, COPIED)
    with Trace.open(tmp_path / "switch.kxt") as trace:
        assert Cursor(trace, 1).physical(DATA) is None  # the tables are not known
        cursor = Cursor(trace)
        watchpoint = Watchpoint(WatchKind.WRITE, DATA, DATA + 8)
        cursor.watchpoints.add(watchpoint)
        assert (cursor.run(), cursor.number) == (Stop(StopReason.WATCHPOINT, watchpoint), 1)


@pytest.mark.parametrize(
    ("word", "address"),
    [(0xF861_D802, DATA - 16), (0x5800_0042, CODE + 8), (0xF841_8402, DATA), (0xF85F_8FE2, CODE - 8)],
    ids=["ldr x2, [x0, w1, sxtw #3]", "ldr x2, .+8", "ldr x2, [x0], #24", "ldr x2, [sp, #-8]!"],
)
def test_read_watchpoints_know_every_addressing_mode(tmp_path: Path, word: int, address: int) -> None:
    state = {"PC": CODE, "PSTATE": EL2H, "X0": DATA, "X1": 0xFFFF_FFFE, "SP": CODE}
    with TraceWriter(tmp_path / "load.kxt", TraceHeader("stepping", REGISTERS), state) as writer:
        writer.step(CODE + 4, word, {"X2": 0})
    with Trace.open(tmp_path / "load.kxt") as trace:
        touching = [
            start
            for start in range(address - 16, address + 24, 8)
            if list(touching_steps(trace, Watchpoint(WatchKind.READ, start, start + 8), None, Span(0, 1)))
        ]
    assert touching == [address]


def test_monitor(answers: PacketAnswers) -> None:
    assert "reverse-continue" in monitor(answers, "help")
    assert "state 0 of 5" in monitor(answers, "where") and "EL2" in monitor(answers, "where")
    assert "cortex-a57" in monitor(answers, "info version") and "7.2.22" in monitor(answers, "info version")
    assert monitor(answers, "goto first-fault").startswith("state 5 of 5")
    assert answers.cursor.state.get("ESR_EL2") == ESR_TRANSLATION_FAULT
    assert "0 to 5" in monitor(answers, "goto 6")
    assert monitor(answers, "goto") == "no state is given; give 0 to 5, begin, end or first-fault\n"
    assert answers.cursor.number == 5
    assert "unknown command: 'system_reset'" in monitor(answers, "system_reset")


def test_an_executed_instruction_that_is_not_known_is_no_exception(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "lax.kxt", TraceHeader("log", REGISTERS), {"PC": CODE, "PSTATE": EL2H}) as writer:
        writer.step(CODE + 4, None, {})
    with Trace.open(tmp_path / "lax.kxt") as trace:
        assert "an instruction that is not known is next" in monitor(
            PacketAnswers(Cursor(trace), description_of(trace.header)), "where"
        )
        assert "(instruction not known)" in step_line(trace, trace.step(0), Style())


def test_the_memory_map_is_qemus(answers: PacketAnswers) -> None:
    assert parse_flat_memory_tree(monitor(answers, "info mtree -f")).regions == REGIONS


def test_without_a_memory_map_recorded_pages_are_memory(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "no-map.kxt", TraceHeader("log", REGISTERS), {"PC": CODE}) as writer:
        writer.see(CODE, PAGE + EMPTY)
        writer.see(CODE + 0x8000, PAGE)
    with Trace.open(tmp_path / "no-map.kxt") as trace:
        text = monitor(PacketAnswers(Cursor(trace), description_of(trace.header)), "info mtree -f")
    regions = parse_flat_memory_tree(text).regions
    assert [(region.start, region.end, region.kind) for region in regions] == [
        (CODE, CODE + 0x2000, RegionKind.RAM),
        (CODE + 0x8000, CODE + 0x9000, RegionKind.RAM),
    ]


@pytest.mark.parametrize("attributes", ['bitsize="9999999999"', 'bitsize="64" regnum="x"', ""])
def test_a_damaged_description_is_refused(attributes: str) -> None:
    text = f'<target><feature name="org.gnu.gdb.aarch64.core"><reg name="x0" {attributes}/></feature></target>'
    with pytest.raises(TraceError, match="description of its registers is damaged"):
        description_of(TraceHeader("stepping", REGISTERS, target_description={"target.xml": text}))


@pytest.mark.parametrize("place", ["-1", "6", "0x1", "fault", "9" * 40, "9" * 5000])
def test_states_that_are_not_there(trace: Trace, place: str) -> None:
    with pytest.raises(TraceError, match="no state of this trace; give 0 to 5"):
        state_named(trace, place)


@pytest.mark.parametrize(
    "packet",
    [
        "m",
        "mzz,4",
        "m0",
        f"m{(1 << 64) - 1:x},8",
        "p",
        "pq",
        "Z0",
        "Z2,0,0",
        "qRcmd,4",
        "vCont;x",
        "z1,5",
        "qkexecdbg.find:0:",
    ],
)
def test_malformed_packets_get_an_error(ask: Ask, packet: str) -> None:
    assert ask(packet) == "E.the packet cannot be understood"


@pytest.mark.parametrize("packet", ["", "vMustReplyEmpty", "X40000000,0:", "qSymbol::", "\xff\x00"])
def test_unknown_packets_get_an_empty_answer(answers: PacketAnswers, packet: str) -> None:
    assert answers.answer(packet.encode("latin-1")) == (b"",)
