"""A guest's registers and memory as files: the verdict is the one that kexec-check gives on the guest itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.live.machines import SECONDS, Bench, bench

START, SIZE = 0x1_8000_0000, 0x80_0000
"""What the guest uses of its RAM."""
GENERAL = (*(f"x{number}" for number in range(31)), "sp", "pc", "cpsr")


def check(*options: str) -> tuple[int, Any]:
    """Exit status and document of the shell command."""
    command = [sys.executable, "-m", "kexecdbg", "check", *options, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.stderr == ""
    return result.returncode, json.loads(result.stdout)


def saved(lab: Bench, directory: Path) -> tuple[list[str], list[str]]:
    """The guest as raw memory and as QEMU's dump, each with all the registers that the guest has."""
    raw, core, state = directory / "ram.bin", directory / "guest.core", directory / "state.json"
    lab.gdb.command(f'monitor pmemsave {START:#x} {SIZE:#x} "{raw}"', SECONDS)
    lab.gdb.command(f"monitor dump-guest-memory {core} {START:#x} {SIZE:#x}", SECONDS)
    registers = lab.run("kexec-regs --all")
    general = {name: lab.gdb.command(f"output/x ${name}") for name in GENERAL}
    state.write_text(json.dumps(registers | general))
    options = ["--state", str(state)]
    return [*options, "--memory", f"{raw}@{START:#x}"], [*options, "--core", str(core)]


def test_files_of_a_guest_give_its_verdict(tmp_path: Path) -> None:
    with bench("M01") as lab:
        live = lab.run("kexec-check")
        sources = saved(lab, tmp_path)
    assert [finding["id"] for finding in live["findings"]] == ["M01"] and live["ahead"] > 0
    for options in sources:
        status, document = check(*options)
        assert (status, {key: document[key] for key in live}) == (1, live)
        assert "M02" in document["excluded"] and "M01" not in document["open"]
