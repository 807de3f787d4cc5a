"""Output that cannot be written ends in one line, like everything else that goes wrong."""

from __future__ import annotations

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
