"""``kexecdbg checks``: every entry is listed and explained, in 80 columns and as JSON."""

from __future__ import annotations

import json

import pytest

from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.checks.rules import all_rules
from kexecdbg.ui.cli import EXIT_PROBLEM, main

RULES = {rule.id: rule for rule in all_rules()}


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["checks", *arguments]) == 0
    return capsys.readouterr().out


def test_the_list_has_a_line_for_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys).splitlines()
    entries = [line for line in lines if line.split()[0] in RULES]
    assert [line.split()[0] for line in entries] == sorted(RULES)
    assert all(line.split()[1] == RULES[line.split()[0]].severity.value for line in entries)
    assert max(map(len, lines)) <= 80
    assert lines[-1] == f"{len(RULES)} entries; `kexecdbg checks M01` explains one"


def test_the_catalogue_is_complete() -> None:
    assert set(RULES) == {f"M{number:02}" for number in range(1, 36)} | {f"K{number:02}" for number in range(1, 10)}


@pytest.mark.parametrize("name", RULES)
def test_an_entry_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, name.lower())
    lines = text.splitlines()
    rule = RULES[name]
    assert lines[0] == f"{name}  {rule.title}: {rule.severity.value}"
    assert max(map(len, lines)) <= 80
    for label in ("looks like", "why", "severity", "in QEMU", "sources", "see it"):
        assert sum(line.startswith(f"  {label}") for line in lines) == 1
    flat = " ".join(text.split())
    for part in (rule.symptom, rule.explanation, *rule.sources):
        assert " ".join(part.split()) in flat
    assert ("QEMU shows it as hardware does." in flat) == (name not in LAXITY)


def test_several_entries_and_their_documents(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(output(capsys, "M13", "M06", "--json"))
    thirteen, six = document["checks"]
    assert (thirteen["id"], six["id"]) == ("M13", "M06")
    assert thirteen["qemu"]["shows"] == "partly"
    assert thirteen["qemu"]["sources"]
    assert six["qemu"] == {"shows": "yes", "text": None, "sources": []}
    assert six["severity"] == "fatal"
    assert "M06" in six["scenarios"]
    assert len(json.loads(output(capsys, "--json"))["checks"]) == len(RULES)


def test_an_entry_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", "M99"]) == EXIT_PROBLEM
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        "kexecdbg: no entry is called M99; `kexecdbg checks` lists them\n",
    )


def test_what_qemu_lets_pass_is_in_the_catalogue() -> None:
    assert LAXITY.keys() <= RULES.keys()
    assert all(laxity.sources and laxity.text.endswith(".") and laxity.remark for laxity in LAXITY.values())
