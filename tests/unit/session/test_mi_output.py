"""GDB/MI as a process prints it: whole records, however it was written."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kexecdbg.session.mi_output import MiOutput

SECONDS = 30.0


@contextmanager
def printing(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell that runs ``script``; it ends with the context."""
    command = ["sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process


def until_result(output: MiOutput) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while not any(record["type"] == "result" for record in found):
        found += output.records(SECONDS)
    return found


def test_a_record_in_pieces_is_one() -> None:
    script = r"""printf '7^done,'; read line; printf 'value="%s"\n' "$line" """
    with printing(script) as process:
        output = MiOutput(process)
        assert output.records(0) == []
        assert process.stdin is not None
        process.stdin.write(b"0x12\n")
        process.stdin.flush()
        (record,) = until_result(output)
    assert (record["token"], record["message"], record["payload"]) == (7, "done", {"value": "0x12"})


def test_reports_are_named_the_rest_is_parsed_and_prompts_are_left_out() -> None:
    lines = (
        '*stopped,reason="x",frame={addr="0x0"}',
        '=thread-exited,id="1"',
        r'~"a\"b\n"',
        "(gdb) ",
        r'&"warning\n"',
        "1^done",
    )
    with printing("printf '%s\\n' " + " ".join(map(shlex.quote, lines))) as process:
        records = until_result(MiOutput(process))
    assert [(record["type"], record["message"], record["payload"]) for record in records] == [
        ("notify", "stopped", None),
        ("notify", "thread-exited", None),
        ("console", None, 'a"b\n'),
        ("log", None, "warning\n"),
        ("result", "done", None),
    ]


def test_nothing_comes_from_a_process_that_has_ended() -> None:
    with printing("exit") as process:
        process.wait(SECONDS)
        assert MiOutput(process).records(SECONDS) == []
