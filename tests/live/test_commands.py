"""The GDB commands on the lab guest: options, names, expressions, documents, completion and help."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kexecdbg.errors import TargetError
from kexecdbg.lab.relocation import ARGUMENT, OLD_KERNEL, PAGE_LIST, RELOCATION_CODE, TRANS_TABLE, VECTORS
from kexecdbg.qemu.process import MachineOptions, QemuProcess
from kexecdbg.session.gdb import GdbSession
from tests.live.machines import ARRIVED, SECONDS, Bench, bench

SITE = 0x1_B308_0120
EL2_CONTROL = [
    "HCR_EL2", "SCTLR_EL2", "TCR_EL2", "MAIR_EL2", "TTBR0_EL2", "VBAR_EL2", "ESR_EL2", "FAR_EL2", "ELR_EL2", "SPSR_EL2",
]  # fmt: skip
EL1_CONTROL = [
    "SCTLR_EL1", "TCR_EL1", "MAIR_EL1", "TTBR0_EL1", "TTBR1_EL1",
    "VBAR_EL1", "ESR_EL1", "FAR_EL1", "ELR_EL1", "SPSR_EL1",
]  # fmt: skip


@pytest.fixture(scope="module")
def at_start() -> Iterator[Bench]:
    """Case A before its first instruction; no test may let it run."""
    with bench("A") as lab:
        yield lab


@pytest.fixture(scope="module")
def at_switch() -> Iterator[Bench]:
    """Case A at the msr; no test may let it run."""
    with bench("A") as lab:
        lab.run("kexec-step --before --timeout 30")
        yield lab


@pytest.fixture
def fresh() -> Iterator[Bench]:
    """Case A before its first instruction."""
    with bench("A") as lab:
        yield lab


# kexec-regs


def test_without_a_name_the_control_registers_of_the_current_level(at_switch: Bench) -> None:
    document = at_switch.run("kexec-regs")
    known = [name for name, register in document.items() if register["value"] is not None]
    assert known == EL2_CONTROL
    assert document["TTBR1_EL2"] == {"value": None}  # cortex-a57 has no FEAT_VHE
    assert {name: document[name]["value"] for name in ("TCR_EL2", "MAIR_EL2", "TTBR0_EL2", "VBAR_EL2")} == {
        "TCR_EL2": "0x80843510",
        "MAIR_EL2": "0xbbff440c0400",
        "TTBR0_EL2": f"{TRANS_TABLE:#x}",
        "VBAR_EL2": f"{VECTORS:#x}",
    }


def test_the_text_has_no_line_wider_than_80_columns(at_switch: Bench) -> None:
    for line in (
        "kexec-regs",
        "kexec-regs --el 1",
        "kexec-regs SCTLR_EL2 TCR_EL2 HCR_EL2",
        "kexec-check",
        "walk-ttbr0 $pc",
    ):
        wide = [row for row in at_switch.text(line).splitlines() if len(row) > 80]
        assert wide == [], line


def test_el_selects_another_level(at_switch: Bench) -> None:
    assert list(at_switch.run("kexec-regs --el 1")) == EL1_CONTROL
    assert at_switch.run("kexec-regs --el 1")["TCR_EL1"]["value"] == "0x4b5103510"


def test_fields_have_name_position_value_and_meaning(at_switch: Bench) -> None:
    tcr = at_switch.run("kexec-regs TCR_EL2")["TCR_EL2"]
    assert tcr["layout"] == "E2H=0"
    assert {"name": "PS", "msb": 18, "lsb": 16, "value": 4, "meaning": "44 bits, 16 TB"} in tcr["fields"]
    assert {field["name"]: field["value"] for field in tcr["fields"]}["T0SZ"] == 16


def test_names_as_qemu_gdb_and_people_write_them(at_switch: Bench) -> None:
    """QEMU 7.2 calls SCTLR_EL1 and VBAR_EL1 by their AArch32 names; cpsr is PSTATE."""
    assert list(at_switch.run("kexec-regs SCTLR VBAR cpsr tcr_el2")) == ["SCTLR_EL1", "VBAR_EL1", "PSTATE", "TCR_EL2"]


def test_raw_shows_values_only(at_switch: Bench) -> None:
    assert at_switch.text("kexec-regs --raw SCTLR_EL2 MAIR_EL2 TTBR0_EL2").split() == [
        "SCTLR_EL2", "0x00000000", "MAIR_EL2", "0x0000bbff440c0400", "TTBR0_EL2", "0x00000001b3069000",
    ]  # fmt: skip
    assert at_switch.text("kexec-regs --raw HCR_EL2.rw TCR_EL2.T0SZ").split() == [
        "HCR_EL2.RW",
        "0x1",
        "TCR_EL2.T0SZ",
        "0x10",
    ]


def test_all_shows_every_register_that_the_target_provides(at_switch: Bench) -> None:
    document = at_switch.run("kexec-regs --all")
    assert {*EL1_CONTROL, *EL2_CONTROL, "ID_AA64MMFR0_EL1", "VTTBR_EL2", "CPTR_EL2"} <= document.keys()
    assert None not in [register["value"] for register in document.values()]


def test_assume_takes_expressions_and_decodes_with_them(at_switch: Bench) -> None:
    document = at_switch.run("kexec-regs SCTLR_EL2 --assume SCTLR_EL2=$x14")["SCTLR_EL2"]
    assert document["value"] == "0x30e5183f"
    assert [field["value"] for field in document["fields"] if field["name"] == "M"] == [1]


def test_a_register_that_the_stub_does_not_have_can_be_assumed(at_switch: Bench) -> None:
    assert "TTBR1_EL2: this target does not provide it" in at_switch.refused("kexec-regs TTBR1_EL2")
    assert at_switch.run("kexec-regs TTBR1_EL2 --assume TTBR1_EL2=0x1000")["TTBR1_EL2"]["value"] == "0x1000"
    several = at_switch.run("kexec-regs TTBR1_EL2 TCR_EL2")
    assert (several["TTBR1_EL2"]["value"], several["TCR_EL2"]["value"]) == (None, "0x80843510")


@pytest.mark.parametrize("register", ["SCTLR_EL2", "TCR_EL2", "TTBR0_EL2", "VBAR"])
def test_a_system_register_written_through_gdb_does_not_take(at_switch: Bench, register: str) -> None:
    """QEMU's stub answers OK and drops the write: the reason why --assume exists and repairs go into memory."""
    before = at_switch.gdb.command(f"output/x ${register}")
    at_switch.gdb.command(f"set ${register} = 0x1234000")
    at_switch.gdb.command("flushregs")
    assert at_switch.gdb.command(f"output/x ${register}") == before


# walk-ttbr0, walk-ttbr1


def test_a_walk_shows_every_level_and_the_fault(at_switch: Bench) -> None:
    walk = at_switch.run("walk-ttbr0 $pc+4")
    assert (walk["va"], walk["regime"], walk["as_if_on"]) == (f"{SITE + 4:#x}", "EL2", True)
    assert [(level["level"], level["address"], level["descriptor"], level["kind"]) for level in walk["levels"]] == [
        (0, "0x1b3069000", "0x1b306a003", "table"),
        (1, "0x1b306a030", "0x1b306b003", "table"),
        (2, "0x1b306bcc0", "0x1b306c003", "table"),
        (3, "0x1b306c400", "0xc80001b3080713", "page"),
    ]
    result = walk["result"]
    assert (result["pa"], result["read"], result["write"], result["execute"]) == (f"{SITE + 4:#x}", True, True, False)
    assert result["fault"] is None
    assert (result["faults"]["fetch"]["esr"], result["faults"]["fetch"]["bit"]) == ("0x8600000f", 54)
    assert result["memory_type"].startswith("Normal Write-Back")


def test_the_descriptors_are_those_in_the_guests_memory(at_switch: Bench) -> None:
    """Read back through QEMU's monitor, which shares no code with us."""
    for level in at_switch.run("walk-ttbr0 $pc+4")["levels"]:
        answer = at_switch.machine.qemu.monitor(f"xp /1gx {level['address']}")
        assert int(answer.split(":")[1], 16) == int(level["descriptor"], 16)


@pytest.mark.parametrize(
    ("expression", "va"),
    [
        ("$pc", SITE),
        ("0x1b3081000", ARGUMENT),
        (str(PAGE_LIST), PAGE_LIST),
        ("'$vbar_el2 + 0x200'", VECTORS + 0x200),
        ("turn_on_mmu_sctlr_write", SITE),
        ("&arm64_relocate_new_kernel", RELOCATION_CODE),
        ("'(long)-1'", (1 << 64) - 1),
    ],
)
def test_address_expressions(at_switch: Bench, expression: str, va: int) -> None:
    expression = expression.replace("$vbar_el2", "$VBAR_EL2")
    assert at_switch.run(f"walk-ttbr0 {expression}")["va"] == f"{va:#x}"


def test_several_addresses_give_several_walks(at_switch: Bench) -> None:
    walks = at_switch.run("walk-ttbr0 $pc 0x1b30a0200")
    assert [walk["result"]["faults"]["fetch"]["esr"] for walk in walks] == ["0x8600000f", "0x86000007"]


def test_another_regime_uses_that_regimes_registers(at_switch: Bench) -> None:
    assumed = "--assume TTBR0_EL1=0x1b3069000 --assume HCR_EL2=0x80000000"
    walk = at_switch.run(f"walk-ttbr0 $pc --regime EL1&0 {assumed}")
    assert (walk["regime"], walk["result"]["execute"], walk["result"]["user"]["execute"]) == ("EL1&0", True, False)


def test_an_assumed_table_is_walked(at_switch: Bench) -> None:
    walk = at_switch.run("walk-ttbr0 $pc --assume TTBR0_EL2=0x1b306a000")
    assert walk["levels"][0]["address"] == "0x1b306a000"
    assert walk["result"]["fault"]["esr"] == "0x96000004"


def test_the_wrong_ttbr_is_refused_with_the_right_command(at_switch: Bench) -> None:
    assert at_switch.refused("walk-ttbr1 $pc") == "walk-ttbr1: the EL2 regime has no TTBR1; use walk-ttbr0"
    upper = "0xffff000000080000"
    assert at_switch.refused(f"walk-ttbr0 {upper} --regime EL1&0").endswith(f"use walk-ttbr1 {upper}")
    assert at_switch.refused("walk-ttbr1 0x1000 --regime EL1&0").endswith("use walk-ttbr0 0x1000")


def test_the_upper_range_is_walked_through_ttbr1(at_switch: Bench) -> None:
    walk = at_switch.run(
        "walk-ttbr1 0xffff0001b3080000 --regime EL1&0 --assume TTBR1_EL1=0x1b3069000 --assume HCR_EL2=0x80000000"
    )
    assert [level["address"] for level in walk["levels"]] == [
        "0x1b3069000",
        "0x1b306a030",
        "0x1b306bcc0",
        "0x1b306c400",
    ]
    assert walk["result"]["pa"] == f"{RELOCATION_CODE:#x}"


# kexec-check, kexec-step, kexec-fix


def test_a_check_before_the_switch_evaluates_the_way_there(at_start: Bench) -> None:
    check = at_start.run("kexec-check")
    assert (check["verdict"], check["site"]) == ("faults", f"{SITE:#x}")
    assert check["predicted"]["first"]["esr"] == "0x8600000f"


def test_a_check_of_an_assumed_write_judges_the_pc_itself(at_switch: Bench) -> None:
    check = at_switch.run("kexec-check --assume SCTLR_EL2=0x30e5183f")
    assert check["site"] == check["next_pc"] == f"{SITE:#x}"
    assert check["predicted"]["first"] == {"esr": "0x8600000f", "far": f"{SITE:#x}", "elr": f"{SITE:#x}"}


def test_an_assumed_write_that_leaves_the_mmu_off_is_not_judged(at_switch: Bench) -> None:
    assert at_switch.refused("kexec-check --assume SCTLR_EL2=0x30e5183e").endswith(
        "with SCTLR_EL2 = 0x30e5183e the MMU stays off; set bit 0, M"
    )


def test_the_document_of_a_check(at_switch: Bench) -> None:
    check = at_switch.run("kexec-check")
    m01, m05, *hazards = check["findings"]
    assert (check["verdict"], check["site"]) == ("faults", f"{SITE:#x}")
    assert (m01["id"], m01["severity"], m01["evidence"]) == (
        "M01",
        "fatal",
        {"address": "0x1b306c400", "level": 3, "descriptor": "0xc80001b3080713", "bit": 54, "name": "XN"},
    )
    assert m01["repair"] == {
        "kind": "write_descriptor",
        "address": "0x1b306c400",
        "old": "0xc80001b3080713",
        "new": "0x880001b3080713",
        "text": "clears bit 54, XN",
    }
    assert (m05["id"], m05["severity"], m05["repair"]) == ("M05", "fatal", None)
    # The series has no ISB before the switch, and cleans its caches by set and way.
    assert [(finding["id"], finding["severity"]) for finding in hazards] == [("M20", "hazard"), ("M21", "hazard")]


@pytest.mark.parametrize(
    "start", ["old_kernel_start", "arm64_relocate_new_kernel", "set_ttbr", "turn_on_mmu", "turn_on_mmu_sctlr_write"]
)
def test_the_switch_is_reached_from_anywhere_before_it(fresh: Bench, start: str) -> None:
    if start != "old_kernel_start":
        fresh.stop_at(fresh.symbol(start))
    document = fresh.run("kexec-step --before --timeout 30")
    assert document["site"] == f"{SITE:#x}"
    assert int(fresh.gdb.command("output/x $pc"), 16) == SITE
    last_set_up = [step["text"] for step in document["steps"]][-1:]
    assert last_set_up == ([] if start == "turn_on_mmu_sctlr_write" else ["ldr x14, #0x1b3080298"])


def test_the_set_up_is_shown_with_what_each_instruction_changes(fresh: Bench) -> None:
    steps = fresh.run("kexec-step --before --timeout 30")["steps"]
    changes = {
        name: (step["text"], change["old"], change["new"])
        for step in steps
        for name, change in step["changes"].items()
        if "_EL" in name
    }
    assert changes == {
        "TTBR0_EL2": ("msr ttbr0_el2, x14", "0x0", "0x1b3069000"),
        "TCR_EL2": ("msr tcr_el2, x14", "0x0", "0x80843510"),
        "MAIR_EL2": ("msr mair_el2, x14", "0x0", "0xbbff440c0400"),
    }


def test_the_first_syndrome_is_kept_in_the_registers(fresh: Bench) -> None:
    stepped = fresh.run("kexec-step --timeout 30")
    assert stepped["observed"]["followed"] is False
    regs = fresh.run("kexec-regs ESR_EL2 FAR_EL2 ELR_EL2")
    assert [register["value"] for register in regs.values()] == ["0x8600000f", f"{SITE + 4:#x}", f"{SITE + 4:#x}"]


def test_a_second_kexec_step_does_not_destroy_the_first_syndrome(fresh: Bench) -> None:
    fresh.run("kexec-step --timeout 30")
    for command in ("kexec-step --timeout 30", "kexec-check"):
        message = fresh.refused(command)
        assert f"{VECTORS + 0x200:#x}: the CPU cannot fetch this virtual address" in message
        assert message.endswith("kexec-why says why the CPU is stuck")
    assert fresh.run("kexec-regs ESR_EL2")["ESR_EL2"]["value"] == "0x8600000f"


def test_no_switch_ahead() -> None:
    """In case H the CPU rests in its vector, a branch to itself."""
    with bench("H") as lab:
        lab.run("kexec-step --timeout 30")
        assert lab.refused("kexec-step --timeout 30").endswith(
            "no write to an SCTLR_ELx is reachable from here (1 instruction)"
        )


def test_fix_needs_a_verdict(fresh: Bench) -> None:
    assert fresh.refused("kexec-fix --yes").endswith("run kexec-check or kexec-step first")


def test_a_dry_run_writes_nothing(fresh: Bench) -> None:
    fresh.run("kexec-step --before --timeout 30")
    planned = fresh.run("kexec-fix --dry-run")
    assert (planned["applied"], planned["recheck"]) == (False, None)
    (repair,) = planned["repairs"]
    assert (repair["new"], repair["level"], repair["findings"]) == ("0x880001b3080713", 3, ["M01"])
    assert repair["fields"] == [{"name": "XN", "msb": 54, "lsb": 54, "old": "0x1", "new": "0x0"}]
    assert fresh.run("walk-ttbr0 $pc")["levels"][3]["descriptor"] == "0xc80001b3080713"


def test_fix_without_yes_asks_and_where_nobody_can_answer_writes_nothing(fresh: Bench) -> None:
    fresh.run("kexec-step --before --timeout 30")
    fresh.gdb.command("set confirm on")
    assert "add --yes" in fresh.refused("kexec-fix")
    assert fresh.run("walk-ttbr0 $pc")["levels"][3]["descriptor"] == "0xc80001b3080713"
    fresh.gdb.command("set confirm off")
    assert fresh.run("kexec-fix")["applied"] is True
    assert fresh.run("walk-ttbr0 $pc")["levels"][3]["descriptor"] == "0x880001b3080713"


def test_fix_takes_the_ids_of_findings_with_a_repair(at_switch: Bench) -> None:
    at_switch.run("kexec-check")
    assert completions(at_switch, "kexec-fix ") == ["kexec-fix M01"]
    assert len(at_switch.run("kexec-fix --dry-run m01")["repairs"]) == 1
    for wanted in ("M05", "M33"):
        assert at_switch.refused(f"kexec-fix --dry-run {wanted}").endswith("; there are repairs for M01")


def test_fix_refuses_when_the_descriptor_has_changed_since(fresh: Bench) -> None:
    fresh.run("kexec-step --before --timeout 30")
    fresh.gdb.command("set {unsigned long}0x1b306c400 = 0x1b3080703")
    assert fresh.refused("kexec-fix --yes").endswith(
        "the descriptor at 0x1b306c400 is 0x1b3080703, not 0xc80001b3080713 any more; run kexec-check again"
    )


def test_after_a_repair_there_is_nothing_to_repair_and_the_machine_runs(fresh: Bench) -> None:
    fresh.run("kexec-step --before --timeout 30")
    recheck = fresh.run("kexec-fix --yes")["recheck"]
    assert (recheck["verdict"], recheck) == ("sound", fresh.run("kexec-check"))
    assert fresh.refused("kexec-fix --yes").endswith("the verdict has no fatal finding: there is nothing to repair")
    assert fresh.go_on().startswith(ARRIVED)


# Completion and help


def completions(lab: Bench, line: str) -> Sequence[str]:
    return lab.gdb.command(f"complete {line}").splitlines()


def test_completion_of_registers_and_options(at_start: Bench) -> None:
    assert {"kexec-regs SCTLR_EL1", "kexec-regs SCTLR_EL2"} <= set(completions(at_start, "kexec-regs SCTLR"))
    assert completions(at_start, "kexec-regs tcr_el2") == ["kexec-regs TCR_EL2"]
    expected = [f"kexec-regs {option}" for option in ("--against", "--all", "--assume")]
    assert completions(at_start, "kexec-regs --a") == expected
    assert completions(at_start, "walk-ttbr0 --reg") == ["walk-ttbr0 --regime"]
    assert completions(at_start, "kexec-step --f") == ["kexec-step --follow"]


COMMANDS = [path.stem.replace("_", "-") for path in (Path(__file__).parents[2] / "plugins/commands").glob("[!_]*.py")]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option(at_start: Bench, name: str) -> None:
    text = at_start.gdb.command(f"help {name}")
    options = {line.split()[-1] for line in completions(at_start, f"{name} --")}
    assert "--json" in options
    assert [option for option in options if option not in text] == []
    assert f"usage: {name}" in text
    assert at_start.gdb.command(f"{name} --help") == text
    assert max(map(len, text.splitlines())) <= 80


def test_a_command_that_does_nothing_cannot_be_loaded(at_start: Bench) -> None:
    idle = "type('Idle', (Command,), {'NAME': 'idle', 'SUMMARY': 'Idle.'})"
    attempt = f"try: {idle}()\nexcept TypeError as error: said = str(error)\nelse: said = 'loaded'"
    at_start.gdb.command(f"python from kexecdbg_plugins.command import Command; exec({attempt!r})")
    assert python(at_start.gdb, "said") == "Idle lacks run"


def test_json_prints_one_document_and_nothing_else(at_switch: Bench) -> None:
    at_switch.gdb.command("set kexecdbg-mark-output off")
    try:
        printed = at_switch.gdb.command("kexec-check --json")
        text = at_switch.gdb.command("kexec-check")
    finally:
        at_switch.gdb.command("set kexecdbg-mark-output on")
    assert json.loads(printed)["verdict"] == "faults"
    assert text.startswith("FAULTS: ")


# Memory: the shared RAM file and the gdbstub


MEMORY = "python import kexecdbg_plugins.adapter as adapter; memory = adapter.debugger().memory"
STUB = "python stub = memory._fallback"


def python(gdb: GdbSession, expression: str) -> str:
    return gdb.command(f"python print({expression})", SECONDS).strip()


def reason(gdb: GdbSession, call: str) -> str:
    """Why ``call`` raises MemoryUnreadableError."""
    attempt = f"try: said = {call}\nexcept MemoryUnreadableError as error: said = error.reason"
    gdb.command(f"python from kexecdbg.errors import MemoryUnreadableError; exec({attempt!r})")
    return python(gdb, "said")


def test_the_ram_file_and_the_stub_read_the_same_bytes(at_switch: Bench) -> None:
    at_switch.gdb.command(MEMORY)
    at_switch.gdb.command(STUB)
    assert python(at_switch.gdb, "type(memory).__name__") == "SharedRamFile"
    for address, size in ((TRANS_TABLE, 0x4000), (RELOCATION_CODE, 0x1000), (0x4000_0000, 64), (0x2_3FFF_F000, 0x1000)):
        assert python(at_switch.gdb, f"memory.read({address}, {size}) == stub.read({address}, {size})") == "True"
    code = python(at_switch.gdb, f"memory.read({SITE}, 4).hex()")
    assert code == "0e101cd5"  # msr sctlr_el2, x14


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (0x2_4000_0000, "no memory there (RAM is 0x40000000-0x23fffffff)"),
        (0x2_3FFF_FFFC, "no memory there (RAM is 0x40000000-0x23fffffff)"),
        (0x0900_0000, "the device pl011 is there, not memory"),
    ],
)
def test_holes_and_devices_are_refused(at_switch: Bench, address: int, why: str) -> None:
    at_switch.gdb.command(MEMORY)
    at_switch.gdb.command(STUB)
    for memory in ("memory", "stub"):
        assert reason(at_switch.gdb, f"{memory}.read({address}, 8)") == why
        assert reason(at_switch.gdb, f"{memory}.write({address}, bytes(8))") == why


def plain_ram(directory: Path) -> list[str]:
    return ["-object", "memory-backend-ram,id=plain,size=128M", "-machine", "memory-backend=plain"]


def test_without_a_shared_file_memory_is_read_and_written_through_the_stub() -> None:
    """Tables are made through the stub as well: the walk of a block that maps the first GiB of RAM."""
    with QemuProcess(MachineOptions(ram_mib=128, prepare=plain_ram)) as qemu, GdbSession() as gdb:
        gdb.connect(str(qemu.gdb_socket))
        gdb.command(MEMORY)
        assert python(gdb, "type(memory).__name__") == "StubMemory"
        gdb.command("python memory.write(0x40001000, (0x40002003).to_bytes(8, 'little'))")
        gdb.command("python memory.write(0x40002008, (0x40000711).to_bytes(8, 'little'))")
        assert qemu.monitor("xp /1gx 0x40001000").split() == ["0000000040001000:", "0x0000000040002003"]
        walk = gdb.run("walk-ttbr0 0x40123456 --assume TTBR0_EL2=0x40001000 --assume TCR_EL2=0x80843510").document
        assert [level["kind"] for level in walk["levels"]] == ["table", "block"]
        assert walk["result"]["pa"] == "0x40123456"
        assert reason(gdb, "memory.read(0x48000000, 8)") == "no memory there (RAM is 0x40000000-0x47ffffff)"


def test_the_ram_file_is_the_guests_ram(fresh: Bench) -> None:
    """What we write into the file, the CPU executes: the first instruction becomes a branch to itself."""
    fresh.gdb.command(MEMORY)
    fresh.gdb.command(f"python memory.write({OLD_KERNEL}, bytes.fromhex('00000014'))")
    fresh.gdb.command("stepi 5")
    assert int(fresh.gdb.command("output/x $pc"), 16) == OLD_KERNEL


def test_an_unknown_gdb_command_is_gdbs_own_error(at_start: Bench) -> None:
    with pytest.raises(TargetError, match="not a kexecdbg command"):
        at_start.gdb.run("output 1")
