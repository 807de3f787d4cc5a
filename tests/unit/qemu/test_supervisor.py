"""What runs beside QEMU, when the program that started it goes away at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kexecdbg.qemu import supervisor


def test_a_directory_that_is_gone_already_ends_it_in_silence(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", supervisor.__file__, str(tmp_path / "gone"), "0", "", "/bin/true"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (127, "", "")
