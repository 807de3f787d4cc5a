"""Parts that are missing: ``kexecdbg doctor`` says which, every other command says so in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kexecdbg.ui.style import WIDTH


def without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``kexecdbg ARGUMENTS`` where no program is on the path and the Python package ``module`` is missing."""
    script = (
        f"import sys; sys.modules[{module!r}] = None; "
        f"from kexecdbg.ui.cli import main; sys.exit(main({list(arguments)!r}))"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env={"PATH": "/nonexistent"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "package"), [("pygdbmi", "pygdbmi"), ("elftools", "pyelftools"), ("numpy", "numpy")]
)
def test_missing_parts_are_named_one_by_one(module: str, package: str) -> None:
    result = without(module, "doctor")
    assert (result.returncode, result.stderr) == (2, "")
    lines = result.stdout.splitlines()
    failed = [line.removeprefix("FAILED ") for line in lines if line.startswith("FAILED ")]
    assert [line.split()[0] for line in failed] == [package, "cross", "GDB", "GDB's", "GDB", "QEMU", "QEMU"]
    assert lines[-1] == "7 of 16 parts do not work: see FAILED above"
    assert max(map(len, lines)) <= WIDTH


def test_a_missing_package_is_one_line() -> None:
    result = without("pygdbmi", "demo")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"{sys.executable} has no Python module 'pygdbmi" in result.stderr
    assert "remove .venv and run qemu-scripts/setup" in result.stderr
