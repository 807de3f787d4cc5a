"""check, walk and regs on registers and memory that somebody handed in: no debugger, no QEMU."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.ui.cli import main
from kexecdbg.ui.verdict_json import verdict_json
from tests.unit.checks.moments import CODE, EXEC, NEXT, SITE, UXN, Moment

MAIL = [
    *("--assume", "SCTLR_EL2=0x30e5183f", "--assume", "TCR_EL2=0x80843510"),
    *("--assume", "MAIR_EL2=0xbbff440c0400", "--assume", "TTBR0_EL2=0x1b3069000"),
]
NOT_EXECUTABLE = Moment(code=EXEC | UXN)


class Shell:
    """The shell command, in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        status = main(arguments)
        captured = self._capture.readouterr()
        return status, captured.out, captured.err

    def json(self, *arguments: str) -> Any:
        """The document that it prints."""
        _, output, errors = self.run(*arguments, "--json")
        assert errors == ""
        return json.loads(output)

    def refused(self, *arguments: str) -> str:
        """The one line of a command that ends with status 2 and prints nothing else."""
        status, output, errors = self.run(*arguments)
        assert (status, output, errors.count("\n")) == (2, "", 1)
        return errors.removeprefix("kexecdbg: ").strip()


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def in_files(moment: Moment, directory: Path) -> list[str]:
    """The options that give ``moment`` as files."""
    state = directory / "state.json"
    state.write_text(json.dumps({name: f"{value:#x}" for name, value in moment.values().items()}))
    options = ["--state", str(state)]
    memory = moment.memory()
    for start, end in memory.populated_ranges():
        path = directory / f"{start:x}.bin"
        path.write_bytes(memory.read(start, end - start))
        options += ["--memory", f"{path}@{start:#x}"]
    return options


def test_the_mail_says_what_it_excludes_and_what_is_needed(shell: Shell) -> None:
    status, text, _ = shell.run("check", *MAIL)
    assert status == 1
    assert text.startswith("UNKNOWN: switching the EL2 MMU on with these registers; it depends on what is\n")
    assert "\nexcluded   M03, M04, M07, M17, M35\n" in text
    assert "\n           0x1b3069000, 4096 bytes: the level 0 table, TTBR0_EL2\n" in text
    assert text.rstrip().endswith("kexecdbg check ... --memory 1b3069000.bin@0x1b3069000")
    assert max(map(len, text.splitlines())) <= 80


def test_the_mail_as_a_document(shell: Shell) -> None:
    document = shell.json("check", *MAIL, "--next", "0x1b3080128")
    assert (document["verdict"], document["next_pc"], document["findings"]) == ("unknown", "0x1b3080128", [])
    assert document["site"] is None
    assert document["excluded"] == ["M03", "M04", "M07", "M17", "M35"]
    needed = document["needed"][0]
    assert (needed["address"], needed["size"], needed["for"]) == (
        "0x1b3069000",
        8,
        "the level 0 descriptor of the next fetch",
    )
    assert "M01" in needed["rules"]


def test_files_give_the_verdict_of_a_live_machine(shell: Shell, tmp_path: Path) -> None:
    options = in_files(NOT_EXECUTABLE, tmp_path)
    document = shell.json("check", *options)
    live = verdict_json(NOT_EXECUTABLE.verdict())
    assert {key: document[key] for key in live} == live
    assert shell.run("check", *options)[0] == 1


def test_a_sound_switch_ends_with_status_0(shell: Shell, tmp_path: Path) -> None:
    status, text, _ = shell.run("check", *in_files(Moment(), tmp_path))
    assert status == 0 and text.startswith(f"SOUND: the write at {SITE:#x} switches the EL2 MMU on\n")


def test_the_mail_itself_will_do_as_state(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    mail = b"> MAIR_EL2 0xbbff440c0400\n> TCR_EL2: 0x80843510, SCTLR_EL2 0x30e5183f\n> TTBR0_EL2 is 0x1b3069000\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(mail)))
    assert shell.json("check", "--state", "-")["excluded"] == ["M03", "M04", "M07", "M17", "M35"]


def test_assume_counts_more_than_the_file(shell: Shell, tmp_path: Path) -> None:
    options = [*in_files(NOT_EXECUTABLE, tmp_path), "--assume", "TCR_EL2=0x80803510"]
    assert [finding["id"] for finding in shell.json("check", *options)["findings"]] == ["M08", "M05"]


def test_walk_is_that_of_the_gdb_command(shell: Shell, tmp_path: Path) -> None:
    options = in_files(NOT_EXECUTABLE, tmp_path)
    status, text, _ = shell.run("walk", *options, "$pc+4", hex(CODE))
    assert status == 0 and text.count("is XN in the EL2\n") == 2
    document = shell.json("walk", *options, "$pc + 4")
    assert (document["va"], document["as_if_on"], document["result"]["execute"]) == (f"{NEXT:#x}", True, False)


def test_walk_without_tables_says_which_is_missing(shell: Shell) -> None:
    status, text, _ = shell.run("walk", *MAIL, "0x1b3080128")
    assert status == 1 and "the level 0 descriptor at 0x1b3069000 cannot be read" in text


def test_regs_shows_what_was_given(shell: Shell) -> None:
    assert list(shell.json("regs", *MAIL)) == ["SCTLR_EL2", "TCR_EL2", "TTBR0_EL2", "MAIR_EL2"]
    fields = shell.json("regs", *MAIL, "SCTLR_EL2.M", "tcr_el2.tg0", "TCR_EL2.PS")
    shown = {name: [field["name"] for field in register["fields"]] for name, register in fields.items()}
    assert shown == {"SCTLR_EL2": ["M"], "TCR_EL2": ["TG0", "PS"]}
    document = shell.json("regs", *MAIL, "tcr_el2", "HCR_EL2")
    assert (document["TCR_EL2"]["value"], document["HCR_EL2"]) == ("0x80843510", {"value": None})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "which machine? --attach HOST:PORT (QEMU's -s is localhost:1234), --state FILE, "),
        (["check", "--state", "no/such/file"], "--state no/such/file: cannot read it: No such file or directory"),
        (["check", "--state", "/"], "--state /: cannot read it: Is a directory"),
        (["check", "--attach", ":1", "--state", "x"], "--attach and --state: a machine at a gdbstub has its own"),
        (["check", "--attach", ":1", "--next", "4"], "--next and --regime: a machine at a gdbstub says these itself"),
        (["check", "--attach", ""], "which gdbstub? --attach HOST:PORT"),
        (["check", *MAIL, "--resume"], "--resume goes with --attach"),
        (["check", *MAIL, "--cpu", "1"], "--cpu goes with --attach or --core"),
        (["check", *MAIL, "--memory", "ram.bin"], "--memory ram.bin: write it as FILE@ADDRESS"),
        (["check", *MAIL, "--memory", "no.bin@0"], "memory no.bin: No such file or directory"),
        (["check", *MAIL, "--next", "$pc"], "$pc: PC is not given; add --assume PC=VALUE"),
        (["check", *MAIL, "--next", "here"], "'here' is no address; give a number"),
        (["check", "--assume", "TCR_EL2"], "--assume TCR_EL2: write it as REGISTER=VALUE"),
        (["check", "--assume", "TCR_EL4=1"], "no register is called 'TCR_EL4'; did you mean "),
        (["check", "--assume", "TCR_EL2=x"], "TCR_EL2: 'x' is not a number"),
        (["walk", *MAIL, "--ttbr", "1", "0"], "the EL2 regime has no TTBR1"),
        (["walk", "--assume", "X0=1", "0"], "nothing given says which MMU it is about"),
        (["regs", *MAIL, "NOSUCH"], "no register is called 'NOSUCH'"),
        (["regs", *MAIL, "TCR_EL2.M"], "TCR_EL2 has no field called 'M' on this machine; ask for TCR_EL2"),
    ],
)
def test_what_cannot_be_is_refused(shell: Shell, arguments: list[str], message: str) -> None:
    assert shell.refused(*arguments).startswith(message)
