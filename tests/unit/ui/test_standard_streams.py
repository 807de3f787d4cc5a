"""Standard streams that are full, closed or of a narrow encoding: one line, or the same result; never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["decode", "TCR_EL2=0x80843510"], ["lab", "list"], ["checks", "--json"]])
def test_no_space_for_the_output(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "kexecdbg", *arguments]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "kexecdbg: the output could not be written: no space is left; write it elsewhere\n"


def test_closed_streams_do_not_change_the_result_and_programs_started_have_all_three() -> None:
    script = (
        "import subprocess, sys; from kexecdbg.ui.cli import main; status = main(['decode', 'ESR_EL2=0x8600000f']); "
        "child = subprocess.call([sys.executable, '-c', 'import os; [os.fstat(number) for number in range(3)]']); "
        "sys.exit(10 * status + child)"
    )
    closed = subprocess.run(["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", script], check=False)
    assert closed.returncode == 0
    nothing = subprocess.run(
        ["sh", "-c", 'exec "$0" -m kexecdbg decode - <&-', sys.executable], capture_output=True, text=True, check=False
    )
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("kexecdbg: found no register value in standard input;")


def test_what_the_encoding_of_the_output_lacks_is_printed_as_an_escape() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kexecdbg", "decode", "-"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        input="ESR_EL2 0x8600000f\npc : fôo+0x10/0x20\n".encode(),
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert rb"f\xf4o+0x10/0x20" in result.stdout
