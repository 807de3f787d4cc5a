"""The answer to one GDB command, out of records made here."""

from __future__ import annotations

from typing import Any

from kexecdbg.session.gdb_answer import GdbAnswer

TOKEN = 6


def record(kind: str, payload: Any = None, message: str = "", token: int | None = None) -> dict[str, Any]:
    return {"type": kind, "payload": payload, "message": message, "token": token}


DONE = record("result", None, "done", TOKEN)
NEXT_DONE = record("result", {"value": "0"}, "done", TOKEN + 1)


def answer_to(*records: dict[str, Any]) -> tuple[GdbAnswer, list[str]]:
    told: list[str] = []
    answer = GdbAnswer(TOKEN, told.append)
    for each in records:
        assert not answer.is_complete
        answer.take(each)
    return answer, told


def test_what_is_printed_and_a_warning_are_told_in_order_and_only_the_first_is_the_answer() -> None:
    answer, told = answer_to(
        record("console", "one\n"), record("log", "warning: two\n"), record("target", "three\r\n"), DONE, NEXT_DONE
    )
    assert (answer.printed, answer.problem, answer.is_complete) == ("one\nthree\n", None, True)
    assert told == ["one\n", "warning: two\n", "three\n"]


def test_a_logged_error_is_the_problem_and_is_not_told() -> None:
    failed = record("result", {"msg": 'No symbol "x" in current context.'}, "error", TOKEN)
    answer, told = answer_to(record("log", 'No symbol "x" in current context.\n'), failed, NEXT_DONE)
    assert (answer.problem, told) == ('No symbol "x" in current context.', [])


def test_what_python_raised_is_the_problem() -> None:
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\ngdb.GdbError: no CPU 4\n'
    failed = record("result", {"msg": "Error occurred in Python: no CPU 4"}, "error", TOKEN)
    answer, _ = answer_to(record("log", traceback), failed, NEXT_DONE)
    assert answer.problem == "no CPU 4"


def test_the_answer_to_another_command_is_none() -> None:
    answer, told = answer_to(record("result", {"msg": "late"}, "error", TOKEN - 2), record("console"))
    assert (answer.problem, answer.is_complete, answer.printed, told) == (None, False, "", [])
