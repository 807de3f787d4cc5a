"""Gdbstubs that are not QEMU's: what they lack is said, and the commands do what can be done without it.

The stub is that of a replay, told to leave things out; the machine behind it is the freeze of 2019.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.machine.memory_map import Region, RegionKind
from kexecdbg.session.gdb import CommandResult
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.writer import TraceWriter
from tests.live.machines import SECONDS, refusal
from tests.live.replays import replay
from tests.traces.corpus import FREEZE, path_of

HYPERVISOR, MMU_OFF, VECTORS = "--assume HCR_EL2=0", "--assume SCTLR_EL2=0x30c50830", "--assume VBAR_EL2=0x1b30a0000"
KNOWN = f"{HYPERVISOR} {MMU_OFF} {VECTORS}"
"""What nobody writes between the start and the switch, or not where it is stepped."""
CODE, BRANCH_TO_ITSELF = 0x4000_0000, 0x1400_0000
PREDICTED = {"esr": "0x8600000f", "far": "0x1b3080124", "elr": "0x1b3080124"}
TABLES = {"TTBR0_EL2": 0x1_B306_9000, "TCR_EL2": 0x8084_3510, "MAIR_EL2": 0xBBFF_440C_0400, "SCTLR_EL2": 0x30E5_183F}


@pytest.fixture(scope="module")
def freeze() -> Path:
    return path_of(FREEZE)


def stepped(trace: Path, *options: str, known: str = KNOWN) -> CommandResult:
    with replay(trace, *options) as gdb:
        return gdb.run(f"kexec-step {known}", SECONDS)


def words(text: str) -> str:
    return " ".join(text.split())


def test_openocd_names_what_it_lacks(freeze: Path) -> None:
    with replay(freeze, "--stub", "openocd") as gdb:
        shown = gdb.run("kexec-regs", SECONDS)
        message = refusal(gdb, "kexec-check")
        still = refusal(gdb, f"kexec-check {HYPERVISOR}")
        assert [gdb.command(f"output sizeof(${name}_EL2)") for name in ("ELR", "ESR", "SPSR")] == ["8", "4", "4"]
    assert "unread HCR_EL2 SCTLR_EL2 TCR_EL2 MAIR_EL2 TTBR0_EL2 VBAR_EL2 FAR_EL2" in words(shown.text)
    assert (shown.document["ESR_EL2"]["value"], shown.document["SCTLR_EL2"]["value"]) == ("0x0", None)
    assert "HCR_EL2 is unknown" in message and "--assume HCR_EL2=VALUE" in message
    assert "SCTLR_EL2 is unknown" in still
    assert "the target does not tell SCTLR_EL2, TCR_EL2, MAIR_EL2, TTBR0_EL2" in still


def test_openocd_what_is_stepped_is_known(freeze: Path) -> None:
    """The switch is judged by values that no register was read for: the instructions were seen to write them."""
    found = stepped(freeze, "--stub", "openocd")
    written = {name: change["new"] for step in found.document["steps"] for name, change in step["changes"].items()}
    assert {name: int(written[name], 16) for name in ("TTBR0_EL2", "TCR_EL2", "MAIR_EL2")} == {
        name: TABLES[name] for name in ("TTBR0_EL2", "TCR_EL2", "MAIR_EL2")
    }
    assert found.document["check"]["findings"][0]["id"] == "M01"
    assert found.document["check"]["predicted"]["first"].items() >= PREDICTED.items()
    assert found.document["agrees"] is True
    assert found.document["observed"]["first"]["esr"] == PREDICTED["esr"]
    assert [remark in words(found.text) for remark in found.document["remarks"]] == [True, True]
    how, where = found.document["remarks"]
    assert "memory was read as the CPU sees it: with the EL2 MMU off" in how
    assert "the target does not tell where RAM is" in where


def test_openocd_the_repair_and_the_relocation_take_what_is_known(freeze: Path) -> None:
    with replay(freeze, "--stub", "openocd") as gdb:
        gdb.run(f"kexec-step --before {KNOWN}", SECONDS)
        for command in ("kexec-fix --dry-run", "kexec-relocate"):
            assert "--assume HCR_EL2=VALUE" in refusal(gdb, command)
        planned = gdb.run(f"kexec-fix --dry-run {KNOWN}", SECONDS)
        driven = gdb.run(f"kexec-relocate {KNOWN}", SECONDS)
        assert "this is not QEMU's gdbstub" in refusal(gdb, "kexec-record start nowhere.kxt")
    assert planned.text.startswith("planned    M01: write 0x00880001b3080713 to 0x1b306c400")
    assert driven.document["outcome"] == "blocked"


def test_without_any_system_register_the_syndrome_is_unread(freeze: Path) -> None:
    lacking = ("--without", "system-registers", "--without", "monitor", "--without", "physical-memory")
    found = stepped(freeze, *lacking)
    assert found.document["check"]["predicted"]["first"].items() >= PREDICTED.items()
    assert (found.document["agrees"], found.document["observed"]["first"]) == (None, None)
    assert "the target does not provide ESR_EL2 and ELR_EL2" in words(found.text)


def test_what_was_seen_is_forgotten_when_the_machine_runs(freeze: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with replay(freeze, "--stub", "openocd") as gdb:
        gdb.run(f"kexec-step --before {KNOWN}", SECONDS)
        told = gdb.run(f"kexec-report -o {report} {KNOWN}", SECONDS).document["remarks"]
        before = gdb.run("kexec-regs TCR_EL2", SECONDS).document["TCR_EL2"]["value"]
        gdb.command("stepi")
        after = refusal(gdb, "kexec-regs TCR_EL2")
    assert int(before, 16) == TABLES["TCR_EL2"]
    # Who reads the report has to know how it came about, too.
    assert all(remark[1:] in report.read_text() for remark in told) and len(told) == 2
    assert "TCR_EL2: this target does not provide it" in after


@pytest.mark.parametrize("feature", ["physical-memory", "monitor"])
def test_one_thing_missing_changes_the_way_and_not_the_verdict(freeze: Path, feature: str) -> None:
    with replay(freeze, "--without", feature) as gdb:
        found = gdb.run("kexec-step", SECONDS)
        walked = gdb.run("walk-ttbr0 0x1b3080124 --assume SCTLR_EL2=0x30e5183f", SECONDS).document
    assert (found.document["agrees"], found.document["observed"]["first"]["esr"]) == (True, PREDICTED["esr"])
    told = {"physical-memory": "as the CPU sees it: with the EL2 MMU off", "monitor": "does not tell where RAM is"}
    assert told[feature] in found.document["remarks"][0]
    assert walked["result"]["execute"] is False


def test_openocd_does_not_go_back(freeze: Path) -> None:
    with replay(freeze, "--without", "reverse") as gdb:
        assert "does not support" in refusal(gdb, "reverse-stepi")


def test_what_the_target_has_is_not_assumed_while_it_runs(freeze: Path) -> None:
    with replay(freeze) as gdb:
        assert "the target provides it" in refusal(gdb, f"kexec-step {HYPERVISOR}")


def test_only_qemu_is_believed_to_lack_el2(tmp_path: Path) -> None:
    """QEMU describes every system register that the CPU has; another stub may leave HCR_EL2 out on a CPU with EL2."""
    path = tmp_path / "el1.kxt"
    registers = ("PC", "PSTATE", "SP", "SCTLR_EL1", "TCR_EL1", "MAIR_EL1", "TTBR0_EL1", "VBAR_EL1")
    header = TraceHeader("stepping", registers, regions=(Region(CODE, CODE + 0x10_0000, RegionKind.RAM, "ram"),))
    state = dict.fromkeys(registers, 0) | {"PC": CODE, "PSTATE": 0x3C5, "TCR_EL1": 0x19}
    with TraceWriter(path, header, state) as writer:
        writer.see(CODE, BRANCH_TO_ITSELF.to_bytes(4, "little") * 1024)
        writer.step(CODE, BRANCH_TO_ITSELF, {})
    with replay(path) as gdb:
        assert gdb.run("walk-ttbr0 $pc", SECONDS).document["regime"] == "EL1&0"
    with replay(path, "--without", "physical-memory") as gdb:
        assert "HCR_EL2=VALUE (0x80000000 on a machine without EL2)" in refusal(gdb, "walk-ttbr0 $pc")
