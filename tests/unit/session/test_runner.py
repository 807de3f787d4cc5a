"""Scripts in processes of their own: every way to end a check, and none that takes the runner with it."""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from kexecdbg.session.check_results import CheckOutcome, CheckResult, Plan, ScriptResult, pack, unpack
from kexecdbg.session.runner import END_SECONDS, RunOptions, run_scripts

WAYS = """\
import os, signal, sys, time
from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.session import ExpectationFailed, Skip, TimedOut

def check_pass():
    print("seen")
    print("twice")

def check_expectation():
    raise ExpectationFailed("expected 1; it is 2\\n  1 of 2\\n  2 of 2")

def check_other():
    inner()

def inner():
    return {}["missing"]

def check_assert():
    assert 1 == 2

def check_skip():
    raise Skip("there is no such thing here")

def check_time_out():
    raise TimedOut("continue: not finished within 1 s; interrupted")

def check_environment():
    raise EnvironmentProblem("qemu: not found")

def check_target():
    raise TargetError("GDB has ended")

def check_exit():
    sys.exit("enough")

def check_interrupt():
    raise KeyboardInterrupt

def check_endless():
    check_endless()
"""


def run(scripts: list[Path], options: RunOptions | None = None) -> list[ScriptResult]:
    results, checks = [], []
    for script, message in run_scripts([str(path) for path in scripts], options or RunOptions(timeout=60)):
        if isinstance(message, CheckResult):
            checks.append(message)
        elif message is None:
            results.append(ScriptResult(script, tuple(checks)))
            checks = []
    return results


def script(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_every_way_to_end(tmp_path: Path) -> None:
    path = script(tmp_path, WAYS)
    (result,) = run([path])
    assert [(check.name.removeprefix("check_"), check.outcome.name, check.reason) for check in result.checks] == [
        ("pass", "PASSED", ""),
        ("expectation", "FAILED", "expected 1; it is 2"),
        ("other", "FAILED", "KeyError: 'missing'"),
        ("assert", "FAILED", "AssertionError"),
        ("skip", "SKIPPED", "there is no such thing here"),
        ("time_out", "TIMED_OUT", "continue: not finished within 1 s; interrupted"),
        ("environment", "ERROR", "qemu: not found"),
        ("target", "FAILED", "GDB has ended"),
        ("exit", "FAILED", "SystemExit: enough"),
        ("interrupt", "FAILED", "KeyboardInterrupt"),
        ("endless", "FAILED", "RecursionError: maximum recursion depth exceeded"),
    ]
    details = {check.name: check.details for check in result.checks}
    assert details["check_pass"] == ()
    assert details["check_expectation"][:2] == ("  1 of 2", "  2 of 2")
    assert details["check_other"] == (
        f"{path}:13 in check_other: inner()",
        f'{path}:16 in inner: return {{}}["missing"]',
    )
    assert details["check_assert"] == (f"{path}:19 in check_assert: assert 1 == 2",)
    (endless,) = details["check_endless"]
    assert re.fullmatch(rf"{re.escape(str(path))}:40 in check_endless: check_endless\(\)  \(\d+ times\)", endless)
    assert result.checks[0].output == ("seen", "twice")
    assert result.outcome is CheckOutcome.ERROR


def test_a_check_that_never_ends_is_ended(tmp_path: Path) -> None:
    """Also one that passes over every exception, as careless scripts do: what ends it is none that they catch."""
    text = "import contextlib\ndef check_for_ever():\n    while True:\n        with contextlib.suppress(Exception):\n"
    text += "            while True: pass\ndef check_next(): ...\n"
    (result,) = run([script(tmp_path, text)], RunOptions(timeout=0.5))
    assert [check.outcome for check in result.checks] == [CheckOutcome.TIMED_OUT, CheckOutcome.PASSED]
    assert result.checks[0].reason == "0.5 s"


def test_what_does_not_let_itself_be_ended(tmp_path: Path) -> None:
    text = "import signal\ndef check_stubborn():\n    while True:\n        try: signal.pause()\n"
    text += "        except BaseException: pass\ndef check_next(): ...\n"
    stubborn, imported = script(tmp_path, text), script(tmp_path, "while True: pass\n", "imported.py")
    died, timed_out = run([stubborn, imported], RunOptions(timeout=0.5, end_seconds=0.5))
    assert [(check.outcome, check.reason) for check in died.checks] == [
        (CheckOutcome.ERROR, "the script's process ended with status 1")
    ] * 2
    (check,) = timed_out.checks
    assert (check.name, check.outcome, check.reason) == ("", CheckOutcome.TIMED_OUT, "0.5 s")


def test_what_is_printed_need_not_be_text(tmp_path: Path) -> None:
    text = "import sys\ndef check_a():\n    print('\\ud800')\n    sys.stdout.buffer.write(b'\\xff\\n')\n"
    (result,) = run([script(tmp_path, text)])
    assert result.checks[0].output == ("\\ud800", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    ("end", "how"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9"), ("os._exit(0)", "ended with status 0")],
)
def test_a_process_that_dies_fails_what_it_had_left_to_do(tmp_path: Path, end: str, how: str) -> None:
    text = f"import os, signal\ndef check_a(): ...\ndef check_b(): {end}\ndef check_c(): ...\n"
    imported = script(tmp_path, f"import os, signal\n{end}\ndef check_a(): ...\n", "imported.py")
    checks = [
        (check.name, check.outcome, check.reason)
        for result in run([script(tmp_path, text), imported])
        for check in result.checks
    ]
    assert checks == [
        ("check_a", CheckOutcome.PASSED, ""),
        ("check_b", CheckOutcome.ERROR, f"the script's process {how}"),
        ("check_c", CheckOutcome.ERROR, f"the script's process {how}"),
        ("", CheckOutcome.ERROR, f"the script's process {how}"),
    ]


def test_children_of_a_script_neither_report_nor_outlive_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "import os, signal\ndef check_a():\n    if not os.fork(): raise OSError('of the child, which comes back')\n"
    text += f"def check_b():\n    pipe = os.open({str(pipe)!r}, os.O_WRONLY)\n    os.write(pipe, b'held')\n"
    text += "    if not os.fork(): signal.pause()\n"
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    (result,) = run([script(tmp_path, text)])
    assert [(check.name, check.outcome) for check in result.checks] == [
        ("check_a", CheckOutcome.PASSED),
        ("check_b", CheckOutcome.PASSED),
    ]
    # The child that stays holds the other end until it is there no more.
    assert os.read(reader, 10) == b"held"
    end = select.poll()
    end.register(reader, select.POLLIN)
    assert end.poll(60_000) == [(reader, select.POLLHUP)]
    os.close(reader)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def check_a(:\n", "SyntaxError: invalid syntax"), ("1 / 0\n", "ZeroDivisionError: division by zero")],
)
def test_a_script_that_cannot_be_read(tmp_path: Path, text: str, reason: str) -> None:
    path = script(tmp_path, text)
    (result,) = run([path])
    (check,) = result.checks
    assert (check.name, check.outcome, check.reason) == ("", CheckOutcome.ERROR, reason)
    assert check.details[0].startswith(f"{path}:1")


def test_several_at_a_time_and_results_in_order(tmp_path: Path) -> None:
    # The first waits for the second: only together they come to their end.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    first = script(tmp_path, f"def check_read(): print(open({str(pipe)!r}).read())\n", "first.py")
    second = script(tmp_path, f"def check_write(): open({str(pipe)!r}, 'w').write('here')\n", "second.py")
    results = run([first, second], RunOptions(jobs=2, timeout=60))
    assert [result.name for result in results] == [str(first), str(second)]
    assert results[0].checks[0].output == ("here",)
    assert {result.outcome for result in results} == {CheckOutcome.PASSED}


def test_what_is_left_when_nobody_listens_any_more(tmp_path: Path) -> None:
    path = script(tmp_path, "import signal\ndef check_a(): ...\ndef check_wait(): signal.pause()\n")
    before = set(psutil.Process().children())
    messages = run_scripts([str(path)], RunOptions())
    _, plan = next(messages)
    assert plan == Plan(("check_a", "check_wait"))
    assert set(psutil.Process().children()) != before
    messages.close()
    assert set(psutil.Process().children()) == before


def test_a_script_whose_end_cannot_be_watched_for_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refused)
    before = set(psutil.Process().children())
    with pytest.raises(OSError, match="Too many open files"):
        run([script(tmp_path, "def check_a(): ...\n")])
    assert set(psutil.Process().children()) == before


def test_more_descriptors_than_select_can_wait_for(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip(f"no process may have more than {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while stack.enter_context(open(os.devnull)).fileno() < 1024:
            pass
        (result,) = run([script(tmp_path, "def check_a(): ...\n")])
    assert result.outcome is CheckOutcome.PASSED


def test_a_second_ctrl_c_ends_what_does_not_let_itself_be_ended(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "import os, signal\ndef check_stubborn():\n"
    text += "    told = False\n    while True:\n        try:\n"
    text += f"            told = told or open({str(pipe)!r}, 'w').write(str(os.getpid()))\n"
    text += "            signal.pause()\n        except BaseException: pass\n"
    command = [sys.executable, "-m", "kexecdbg", "run", str(script(tmp_path, text))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        stubborn = psutil.Process(int(pipe.read_text()))
        run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        assert "script.py has 30 s to end what it runs; Ctrl-C ends it at once" in run.stderr.readline()
        run.send_signal(signal.SIGINT)
        assert run.wait(END_SECONDS / 2) == 130
        assert run.stderr.read() == "kexecdbg: interrupted\n"
    assert not stubborn.is_running()


def test_messages_survive_the_way() -> None:
    result = CheckResult("check_a", CheckOutcome.TIMED_OUT, "5 s", ("a", "b"), ("c",), 1.5)
    assert unpack(pack(result)) == result
    assert unpack(pack(Plan(("check_a",)))) == Plan(("check_a",))


def test_the_worst_check_decides() -> None:
    def outcome(*names: str) -> str:
        return ScriptResult("s", tuple(CheckResult("c", CheckOutcome[name]) for name in names)).outcome.name

    assert outcome("PASSED", "SKIPPED") == "PASSED"
    assert outcome("SKIPPED", "SKIPPED") == "SKIPPED"
    assert outcome("PASSED", "FAILED", "SKIPPED") == "FAILED"
    assert outcome("FAILED", "ERROR") == "ERROR"
