"""``kexecdbg decode``: exit status, JSON, messages."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.ui.cli import main

DATA = Path(__file__).parents[2] / "data" / "decode"
MAIL = str(DATA / "mail_2019.txt")


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main(["decode", "--json", *arguments]) == status
    output = capsys.readouterr()
    document: dict[str, Any] = json.loads(output.out)
    return document


def test_one_register(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, "TCR_EL2=0x80843510", "HCR_EL2=0x80000000")
    register = document["TCR_EL2"]
    assert (register["value"], register["layout"], register["findings"]) == ("0x80843510", "E2H=0", [])
    assert {"name": "PS", "msb": 18, "lsb": 16, "value": 4, "meaning": "44 bits, 16 TB"} in register["fields"]


def test_the_mail(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, MAIL)
    assert list(document) == ["MAIR_EL2", "MAIR_EL1", "TCR_EL2", "SCTLR_EL2", "TTBR0_EL2", "consistency"]
    assert document["MAIR_EL2"]["value"] == "0xbbff440c0400"
    (judged,) = document["consistency"]
    assert judged["consistent"] is True and judged["regime"] == "EL2" and judged["findings"] == []


def test_the_mail_as_text_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", MAIL]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert output.startswith("CONSISTENT These registers are consistent with each other for the EL2 regime.")
    assert "the cause must be looked for in the tables" in output
    assert output.endswith("kexecdbg walk '$pc' --regime EL2 --attach localhost:1234")


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"TCR_EL2 0x80843510 \xff\n")))
    assert json_of(capsys, "-")["TCR_EL2"]["value"] == "0x80843510"


def test_a_pair_replaces_a_value_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, MAIL, "HCR_EL2=0x488000000", status=1)
    assert document["TCR_EL2"]["layout"] == "E2H=1"
    assert [found["id"] for found in document["consistency"][0]["findings"]] == ["M06", "M08"]


def test_an_oops(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, str(DATA / "oops_16k47.txt"), status=1)
    assert document["ESR_EL1"]["syndrome"]["text"] == "Data Abort, same EL: Translation fault, level 1, on a read"
    (table,) = document["tables"]
    assert (table["granule"], table["va_bits"], table["invalid_level"], table["syndrome"]) == ("16K", 47, 1, "agrees")
    assert table["levels"] == [
        {"level": 1, "names": ["pgd"], "descriptor": "0x0", "kind": "invalid", "output": None, "bits": []}
    ]


def test_a_syndrome_alone_is_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "ESR_EL2=0x8600000f", "FAR_EL2=0x1b3080040"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("ESR_EL2 0x8600000f: Instruction Abort, same EL: Permission fault, level 3\n")
    assert "FAR_EL2 0x1b3080040: address of the fetch." in output


def test_two_values_of_one_register(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, "TCR_EL2=0x80843510", "TCR_EL2=0x80853519", "HCR_EL2=0x80000000")
    differences = document["TCR_EL2"]["differences"]
    assert [(item["name"], item["value"], item["other_value"]) for item in differences] == [
        ("PS", 4, 5),
        ("T0SZ", 16, 25),
    ]
    assert document["TCR_EL2"]["other"]["value"] == "0x80853519"
    assert document["TCR_EL2"]["other_bits"] == ""


def test_two_values_of_one_register_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "TCR_EL2=0x80843510", "TCR_EL2=0x00803519", "HCR_EL2=0x80000000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "TCR_EL2: PS, T0SZ differ"
    assert "  outside every field: bit 31" in lines


def test_the_same_value_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "TCR_EL2=0x80843510", f"TCR_EL2={0x80843510}"]) == 0
    assert capsys.readouterr().out.startswith("TCR_EL2: the two values are the same\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x1b3069000", 0x1B3069000), ("16", 16), ("1b3069000", 0x1B3069000), ("0000000096000007", 0x96000007),
     ("0x1_b306_9000", 0x1B3069000)],
)  # fmt: skip
def test_number_bases(capsys: pytest.CaptureFixture[str], text: str, value: int) -> None:
    assert json_of(capsys, f"TTBR0_EL3={text}")["TTBR0_EL3"]["value"] == f"{value:#x}"


def test_a_long_decimal_is_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    main(["decode", "FAR_EL2=80843510"])
    assert "read as decimal, 0x4d192f6; write 0x80843510" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["TRC_EL2=1"], "no register is called 'TRC_EL2'; did you mean"),
        (["TCR_EL2=zz"], "TCR_EL2: 'zz' is not a number"),
        (["TCR_EL2="], "TCR_EL2: '' is not a number"),
        (["TCR_EL2=0x10000000000000000"], "more than 64 bits"),
        (["TCR_EL2"], "a register takes its value with '=': TCR_EL2=0x..."),
        (["no-such-file"], "'no-such-file' is neither REG=VALUE nor a file"),
        (["/"], "cannot read '/'"),
        ([__file__.replace(".py", ".none")], "neither REG=VALUE nor a file"),
        (["TCR_EL2=1", "TCR_EL2=2", "TCR_EL2=3"], "compare two values of one register at a time"),
    ],
)
def test_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["decode", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert message in output.err


def test_text_without_registers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing here, TRC_EL2 0x80843510 apart")
    assert main(["decode", str(tmp_path / "text")]) == 2
    output = capsys.readouterr()
    assert "found no register value in" in output.err and "no register is called TRC_EL2" in output.err


def test_decoding_imports_nothing_heavy() -> None:
    script = (
        "import sys; from kexecdbg.ui.cli import main; main(['decode', 'TCR_EL2=0x80843510']); "
        "heavy = {'numpy', 'capstone', 'elftools', 'pygdbmi', 'prompt_toolkit', 'kexecdbg.arm64.evaluation'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
