"""The worked scripts, as a CI job runs them: on their own machines, on a recording, as KTAP."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.ui.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
FREEZE = Path(__file__).parents[1] / "traces" / "freeze-2019.kxt"
KTAP = """\
KTAP version 1
1..4
  KTAP version 1
  1..3
  # The next fetch, 0x1b3080124, faults: bit 54 of its level 3 descriptor is XN in the EL2 regime.
  ok 1 check_the_fetch_is_predicted_to_fault
  ok 2 check_the_cpu_does_what_was_predicted
  # clears bit 54, XN: 0xc80001b3080713 -> 0x880001b3080713
  ok 3 check_the_repair_lets_it_arrive
ok 1 freeze.py
  KTAP version 1
  1..1
  # registers that differ: none
  # level 3 at 0x1b306c400: good 0x880001b3080713, bad 0xc80001b3080713, bits 0x40000000000000 differ
  ok 1 check_where_they_part
ok 2 good_and_bad.py
  KTAP version 1
  1..3
  # struct kern_reloc_arg, RFC v2: 65 pages
  ok 1 check_the_list_is_sound
  # 65 pages compared, the new kernel is at 0x180080000: b 0x180080028
  ok 2 check_every_page_arrives
  ok 3 check_the_new_kernel_runs
ok 3 relocation.py
  KTAP version 1
  1..1
  # 0x180000010: msr ttbr0_el2, x3: TTBR0_EL2 = 0x180600000, 30 descriptors
  ok 1 check_every_ttbr_write
ok 4 ttbr_writes.py
"""
MORE = " Kernel attributes made for EL1 set it as UXN, where it only concerns EL0."


def test_examples(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    scripts = ["freeze.py", "good_and_bad.py", "relocation.py", "ttbr_writes.py"]
    assert main(["run", *scripts, "--ktap", "--jobs", "2"]) == 0
    printed = capsys.readouterr().out.replace(MORE, "")
    lines = [line for line in printed.splitlines(keepends=True) if not line.startswith("  #   ")]
    assert "".join(lines) == KTAP


def test_the_same_scripts_on_a_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    report = tmp_path / "junit.xml"
    assert main(["run", "freeze.py", "--trace", str(FREEZE), "--junit", str(report)]) == 0
    outcomes = [line.split()[:3:2] for line in capsys.readouterr().out.splitlines() if " freeze.py " in line]
    assert outcomes == [
        ["passed", "check_the_fetch_is_predicted_to_fault"],
        ["passed", "check_the_cpu_does_what_was_predicted"],
        ["skipped", "check_the_repair_lets_it_arrive"],
    ]
    assert "a recording cannot be repaired" in report.read_text()


def test_a_failing_check_and_one_that_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "sound.py"
    script.write_text(
        "from kexecdbg.session import lab\nTARGET = lab('A')\n"
        "def check_sound(session):\n    session.run_to_switch()\n    session.expect_sound()\n"
    )
    logs = tmp_path / "logs"
    assert main(["run", str(script), "--logs", str(logs)]) == 1
    printed = capsys.readouterr().out
    assert "  expected a sound switch; the verdict is FAULTS, M01, ESR 0x8600000f ELR 0x1b3080124\n" in printed
    assert f"  {script}:5 in check_sound: session.expect_sound()\n  logs of lab A: {logs}" in printed
    assert main(["run", str(script), "--attach", str(tmp_path / "nobody.sock")]) == 2
    assert "no gdbstub answers there" in capsys.readouterr().out
    assert main(["run", str(tmp_path / "missing.py")]) == 2
    assert capsys.readouterr().err == f"kexecdbg: {tmp_path / 'missing.py'}: no such script\n"
