"""Scripted sessions on real machines: what they see, how expectations fail, what is kept and what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kexecdbg.errors import EnvironmentProblem, RegisterUnknownError, TargetError, UsageError
from kexecdbg.lab.boot import boot
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.session import ExpectationFailed, Judgement, NotOnThisTarget, Session, TimedOut
from kexecdbg.ui.cli import main
from tests.live.machines import SECONDS, bench
from tests.live.test_nothing_left_behind import MARK, processes_with
from tests.traces.corpus import FREEZE as RECORDING
from tests.traces.corpus import REPAIRED, path_of

FREEZE = "A"
SITE, NEXT = 0x1_B308_0120, 0x1_B308_0124
XN_FAULT = 0x8600_000F
NOT_MAPPED = 0x4000_0000


@pytest.fixture(scope="module")
def at_the_switch() -> Iterator[Session]:
    """The freeze of 2019, stopped before the write; tests leave it there."""
    with Session.lab(FREEZE) as session:
        switch = session.run_to_switch()
        assert (switch.site, switch.observed) == (SITE, None)
        assert {"TTBR0_EL2", "TCR_EL2", "MAIR_EL2"} <= {name for step in switch.set_up for name in step.changes}
        yield session


def test_the_verdict(at_the_switch: Session) -> None:
    verdict = at_the_switch.expect_faults("M01", esr=XN_FAULT, far=NEXT, elr=NEXT)
    assert (verdict.judgement, verdict.el, verdict.next_pc) == (Judgement.FAULTS, 2, NEXT)
    cause = verdict.finding("M01")
    assert cause is not None and cause.evidence["bit"] == 54 and cause.repair is not None
    assert verdict.prediction.then is not None and verdict.prediction.first is not None


def test_registers(at_the_switch: Session) -> None:
    registers = at_the_switch.registers
    assert registers["pc"] == registers["PC"] == SITE
    assert at_the_switch.expect_register("TCR_EL2", 0x8084_3510) == 0x8084_3510
    assert at_the_switch.expect_register("TCR_EL2", 0x10, mask=0x3F) == 0x8084_3510
    assert registers.get("SCTLR_EL3") is None and registers.get("SCTLR_EL3", default=7) == 7
    assert "SCTLR_EL3" not in registers and "TTBR0_EL2" in registers
    with pytest.raises(RegisterUnknownError, match="SCTLR_EL3 is unknown"):
        registers["SCTLR_EL3"]
    with pytest.raises(UsageError):
        registers["NOSUCH_EL2"]
    assert registers.snapshot()["TTBR0_EL2"] == registers["TTBR0_EL2"]


def test_walks(at_the_switch: Session) -> None:
    walk = at_the_switch.expect_mapped("$pc+4", pa=NEXT, read=True, write=True, execute=False, memory_type="Normal")
    assert [level.level for level in walk.levels] == [0, 1, 2, 3]
    assert "bit 54" in walk.because["execute"]
    assert walk == at_the_switch.walk(NEXT)
    table = at_the_switch.table()
    assert (table.regime, table.root) == ("EL2", walk.levels[0].address & ~0xFFF)
    assert any(mapped.va <= NEXT < mapped.end and mapped.execute is False for mapped in table.ranges)


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ("expect_sound()", "expected a sound switch; the verdict is FAULTS, M01, ESR 0x8600000f ELR 0x1b3080124"),
        ("expect_faults('M02')", "expected a fault with M02 as the cause; the verdict is FAULTS, M01"),
        ("expect_faults('M01', esr=0x86000007)", "expected a fault with ESR 0x86000007; the verdict is FAULTS"),
        ("expect_register('TCR_EL2', 0x80843511)", "expected TCR_EL2 to be 0x80843511; it is 0x80843510, bits 0x1"),
        ("expect_mapped('$pc+4', execute=True)", "expected 0x1b3080124 to be mapped executable (it is not)"),
        ("expect_mapped('$pc+4', pa=0x1000)", "expected 0x1b3080124 to be mapped to 0x1000 (it is to 0x1b3080124)"),
        (f"expect_mapped({NOT_MAPPED:#x})", "expected 0x40000000 to be mapped; it is not: Translation fault"),
    ],
)
def test_an_expectation_that_is_not_met_has_the_evidence(at_the_switch: Session, expectation: str, said: str) -> None:
    with pytest.raises(ExpectationFailed) as caught:
        eval(f"session.{expectation}", {"session": at_the_switch})
    first, *evidence = str(caught.value).splitlines()
    assert first.startswith(said)
    assert len(evidence) > 2 and all(not line or line.startswith("  ") for line in evidence)
    assert isinstance(caught.value, AssertionError)


def test_where_it_is_and_what_gdb_says(at_the_switch: Session) -> None:
    assert str(at_the_switch.where()) == f"{SITE:#x}: msr sctlr_el2, x14"
    assert at_the_switch.evaluate("$pc + 4") == NEXT
    assert at_the_switch.command("output 6 * 7") == "42"
    with pytest.raises(TargetError, match="No symbol"):
        at_the_switch.evaluate("no_such_symbol")


def test_arguments_that_make_no_sense(at_the_switch: Session) -> None:
    for refused in (
        lambda: at_the_switch.step(-1),
        lambda: at_the_switch.check(timeout=0),
        lambda: at_the_switch.walk("$pc", timeout=float("nan")),
        lambda: at_the_switch.run_to_instruction("[msr"),
        lambda: at_the_switch.expect_console("[never"),
    ):
        with pytest.raises(UsageError):
            refused()
    assert at_the_switch.where().pc == SITE


def test_over_the_switch_why_and_the_repair() -> None:
    with Session.lab(FREEZE) as session:
        assert session.run_to("$pc").instruction  # it is there already
        observed = session.expect_as_predicted().observed
        assert observed is not None and observed.first is not None and observed.first.esr == XN_FAULT
        diagnosis = session.why()
        assert (diagnosis.is_stuck, diagnosis.switch) == (True, SITE)
        with pytest.raises(ExpectationFailed, match=r"it took an exception to 0x1b30a0200"):
            session.expect_arrival()
        in_the_vector = re.escape("0x1b30a0200: (unreadable)")
        with pytest.raises(
            TimedOut, match=rf"^0x10 was not reached; .* within 0\.2 s; interrupted at {in_the_vector}$"
        ):
            session.run_to(0x10, timeout=0.2)
        assert "0x0000000000000010" not in session.command("info breakpoints")
        with pytest.raises(TimedOut, match=rf"^no instruction matches 'never' within 0\.2 s; {in_the_vector}$"):
            session.run_to_instruction("never", timeout=0.2)
        with pytest.raises(ExpectationFailed, match=rf"after 0\.2 s the CPU is at {in_the_vector}\n  \(nothing was"):
            session.expect_console("never", timeout=0.2)
        with pytest.raises(TimedOut, match=rf"^stepi 1000000000: not finished .*; interrupted at {in_the_vector}$"):
            session.step(10**9, timeout=0.2)  # GDB loses most interrupts while it steps
        session.resume()
        assert session.is_running()
        assert session.interrupt().pc is not None
        (repair,) = session.fix().repairs
        assert repair.new == repair.old & ~(1 << 54)
        session.expect_arrival()
        session.expect_console(r"arrived whole: \d+ pages")
        never = r"expected 'never' on the console; it did not come, the machine has ended\n +new kernel"
        with pytest.raises(ExpectationFailed, match=never):
            session.expect_console("never", timeout=0.2)


def test_a_relocation() -> None:
    with Session.lab("B") as session:
        session.relocate(pages=1)
        image = session.image()
        assert (image.pages, image.defects) == (65, ())
        relocation = session.expect_relocated()
        assert (relocation.outcome, relocation.verified, relocation.differing) == ("arrived", 65, 0)
        session.expect_arrival()
        assert session.where().ended


def test_a_fault_that_comes_later_is_a_fault() -> None:
    with Session.lab("K01") as session:
        session.run_to_switch()
        assert session.expect_faults("K01").prediction.first is None


def test_a_trace() -> None:
    with Session.trace(path_of(RECORDING)) as session:
        assert session.run_to(SITE).instruction == "msr sctlr_el2, x14"
        assert session.step(2).pc != NEXT
        for unavailable in (session.fix, session.expect_arrival, lambda: session.expect_console("arrived")):
            with pytest.raises(NotOnThisTarget):
                unavailable()
    with Session.trace(path_of(RECORDING), state="first-fault") as session:
        assert session.registers["ESR_EL2"] == XN_FAULT
    with Session.trace(path_of(REPAIRED)) as session:
        relocation = session.expect_relocated()  # though no code can be changed there, to read the counter
        assert (relocation.pages, relocation.verified, session.where().pc) == (65, 65, 0x1_8008_0000)


def test_attach_leaves_the_machine_as_it_should() -> None:
    with boot(find_scenarios([FREEZE])[0].guest.build()) as machine:
        address = str(machine.qemu.gdb_socket)
        with Session.attach(address, symbols=machine.symbol_file) as session:
            assert session.run_to_switch().site == SITE
        assert "paused" in machine.qemu.monitor("info status")
        with Session.attach(address, resume=True) as session:
            assert session.registers["PC"] == SITE
        assert "running" in machine.qemu.monitor("info status")


def test_a_qemu_of_ones_own(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x1f\x20\x03\xd5" * 3 + b"\x00\x00\x00\x14")  # nop, nop, nop, b .
    command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57", "-nographic", "-nic", "none"]
    loader = f"loader,file={program},addr=0x40200000,cpu-num=0,force-raw=on"
    with Session.qemu([*command, "-device", loader]) as session:
        assert str(session.where()) == "0x40200000: nop"
        assert session.step(2).pc == 0x4020_0008
        stop = session.run_to_instruction("b ")
        assert stop is not None and stop.pc == 0x4020_000C
        assert session.run_to_instruction("nop", most=3) is None
        assert session.console == ""
    with pytest.raises(UsageError, match="leave -s out"), Session.qemu([*command, "-s"]):
        pass
    with pytest.raises(EnvironmentProblem, match="no-such-qemu: not found"), Session.qemu(["no-such-qemu"]):
        pass
    with pytest.raises(EnvironmentProblem, match=r"QEMU did not start: .*nosuch"), Session.qemu([*command, "-nosuch"]):
        pass


def test_logs_are_kept_of_a_failure_only(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught, Session.lab(FREEZE, logs=tmp_path / "logs") as session:
        session.command("output 6 * 7")
        _ = 1 / 0
    (folder,) = (tmp_path / "logs").iterdir()
    assert caught.value.__notes__ == [f"logs of lab A: {folder}"]
    assert "(gdb) output 6 * 7\n42\n" in (folder / "gdb.txt").read_text()
    assert {path.name for path in folder.iterdir()} == {"gdb.txt", "console.txt", "qemu.txt"}


def test_a_check_that_fails_and_one_that_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "sound.py"
    script.write_text(
        "from kexecdbg.session import lab\nTARGET = lab('A')\n"
        "def check_sound(session):\n    session.run_to_switch()\n    session.expect_sound()\n"
    )
    logs = tmp_path / "logs"
    assert main(["run", str(script), "--trace", str(path_of(RECORDING)), "--logs", str(logs), "--json"]) == 1
    (check,) = json.loads(capsys.readouterr().out)["scripts"][0]["checks"]
    assert (check["name"], check["outcome"]) == ("check_sound", "failed")
    assert check["reason"] == "expected a sound switch; the verdict is FAULTS, M01, ESR 0x8600000f ELR 0x1b3080124"
    place, kept = check["details"][-2:]
    assert place == f"{script}:5 in check_sound: session.expect_sound()"
    assert kept.startswith(f"logs of trace {path_of(RECORDING).name}: {logs}")
    assert main(["run", str(script), "--attach", str(tmp_path / "nobody.sock")]) == 2
    assert "no gdbstub answers there" in capsys.readouterr().out
    assert main(["run", str(tmp_path / "missing.py")]) == 2
    assert capsys.readouterr().err == f"kexecdbg: {tmp_path / 'missing.py'}: no such script\n"


def test_a_session_that_cannot_be_opened() -> None:
    with pytest.raises(UsageError, match=r"M01\*: \d+ scenarios; a session runs on one"), Session.lab("M01*"):
        pass
    with pytest.raises(UsageError, match="the session on lab A is not open; use it in a with statement"):
        Session.lab(FREEZE).check()


SPINNING = """\
from kexecdbg.session import lab
TARGET = lab("A")
def check_spin(session):
    session.step_over_switch()
    print("at it", file=__import__("sys").stderr, flush=True)
    session.continue_()
"""


@pytest.mark.parametrize(
    ("number", "whom", "status"),
    [(signal.SIGINT, "run", 130), (signal.SIGKILL, "run", -9), (signal.SIGKILL, "script", 2)],
    ids=["Ctrl-C", "kill -9 of kexecdbg run", "kill -9 of the script"],
)
def test_nothing_is_left_however_it_ends(tmp_path: Path, number: int, whom: str, status: int) -> None:
    script = tmp_path / "spinning.py"
    script.write_text(SPINNING)
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-m", "kexecdbg", "run", str(script)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MARK: mark},
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "at it\n"
        started = {child.pid: child for child in processes_with(mark)}
        (directory,) = (
            Path(child.cmdline()[4]) for child in started.values() if "supervisor.py" in str(child.cmdline())
        )
        (victim,) = [child for child in started.values() if child.cmdline()[-1].endswith("script_process")]
        os.kill(process.pid if whom == "run" else victim.pid, number)
        assert process.wait(SECONDS) == status
        _, alive = psutil.wait_procs(list(started.values()), SECONDS)
        assert [child.cmdline() for child in alive] == []
        assert "Traceback" not in process.stderr.read()
    assert not directory.exists()


def test_a_machine_that_ends_before_it_is_stopped() -> None:
    with bench("A") as lab:
        lab.gdb.resume()
        os.kill(lab.machine.qemu.pid, signal.SIGKILL)
        lab.machine.qemu.wait_exit(SECONDS)
        lab.gdb.stop()
        assert lab.gdb.command("output 6 * 7") == "42"
