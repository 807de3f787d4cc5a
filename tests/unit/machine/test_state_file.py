"""Registers that somebody hands in: JSON of any origin, or text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.arm64.registers import decode
from kexecdbg.errors import KexecdbgError, UsageError
from kexecdbg.machine.state_file import read_registers
from kexecdbg.ui.register_json import register_json

TCR, SCTLR = 0x8084_3510, 0x30E5_183F
WHERE = "state.json"


def test_numbers_and_strings_under_any_of_their_names() -> None:
    text = json.dumps({"tcr_el2": "0x8084_3510", "SCTLR": SCTLR, "cpsr": "969", "lr": "0x10", "VBAR_EL2": None})
    given_registers = read_registers(text, WHERE)
    assert given_registers.values == {"TCR_EL2": TCR, "SCTLR_EL1": SCTLR, "PSTATE": 969, "X30": 0x10}
    assert given_registers.remarks == ()


def test_the_documents_that_our_own_commands_print() -> None:
    document = {
        "TCR_EL2": {"cpu": 0, **register_json(decode("TCR_EL2", TCR, {}))},
        "ESR_EL2": {"value": None},
    }
    text = json.dumps({**document, "consistency": [], "tables": [], "code": {}, "notes": ["a remark"]})
    assert read_registers(text, WHERE).values == {"TCR_EL2": TCR}


@pytest.mark.parametrize(
    "text",
    [
        "> TCR_EL2 0x80843510 and sctlr_el2: 0x30e5183f",
        "tcr_el2        0x80843510          2156148496\nsctlr_el2      0x30e5183f          820320319\n",
        "\ufeffTCR_EL2=0000000080843510 SCTLR_EL2=0000000030e5183f",
    ],
    ids=["a mail", "GDB", "a log"],
)
def test_text_instead_of_json(text: str) -> None:
    assert read_registers(text, WHERE).values == {"TCR_EL2": TCR, "SCTLR_EL2": SCTLR}


def test_names_that_no_register_has_are_named_in_one_remark() -> None:
    found = read_registers('{"SCTRL_EL2": 1, "TCR_EL2": "0x80843510"}', WHERE)
    assert found.values == {"TCR_EL2": TCR}
    (remark,) = found.remarks
    assert remark.startswith("state.json: left out, no register is called 'SCTRL_EL2'; did you mean SCTLR_EL2, ")


def test_a_decimal_that_looks_hexadecimal_is_remarked_upon() -> None:
    (remark,) = read_registers('{"TCR_EL2": "80843510"}', WHERE).remarks
    assert remark == "state.json: TCR_EL2=80843510 is read as decimal, 0x4d192f6; write 0x80843510 for hexadecimal"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "state.json: no register value in it; what is looked for"),
        ("{}", "state.json: no register value in it"),
        ('{"NOSUCH": 1}', "no register is called 'NOSUCH'"),
        ('{"TCR_EL2": 1', "state.json: not JSON: Expecting ',' delimiter: line 1 column 14"),
        ('{"TCR_EL2": 1.5}', "state.json: TCR_EL2: 1.5 is not a register value"),
        ('{"TCR_EL2": true}', "state.json: TCR_EL2: true is not a register value"),
        ('{"TCR_EL2": {"fields": []}}', "is not a register value"),
        ('{"TCR_EL2": -1}', "state.json: TCR_EL2: the value does not fit into 64 bits"),
        ('{"TCR_EL2": "0x10000000000000000"}', "has more than 64 bits"),
        ('{"TCR_EL2": "often"}', "state.json: TCR_EL2: 'often' is not a number"),
        ('{"CPSR": 1, "PSTATE": 2}', "PSTATE gives PSTATE a second value, 0x2 beside 0x1"),
        ('{"TCR_EL2": 1, "TCR_EL2": 2}', "TCR_EL2 gives TCR_EL2 a second value, 0x2 beside 0x1"),
        ('{"a":' * 50_000, "state.json: it is nested too deeply to be registers"),
        ('{"TCR_EL2": ' + "9" * 5000 + "}", "state.json: TCR_EL2: the value does not fit into 64 bits"),
        ('{"TCR_EL2": "' + "9" * 5000 + '"}', "state.json: TCR_EL2: " + "9" * 40 + "... has more than 64 bits"),
        ('{"TCR_EL2": "' + "x" * 5000 + '"}', "state.json: TCR_EL2: '" + "x" * 40 + "...' is not a number"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_registers(text, WHERE)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


_names = st.sampled_from(["TCR_EL2", "cpsr", "X0", "S3_0_C1_C0_0", "value", "notes"]) | st.text(max_size=8)
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_contents = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3)
)


@given(st.dictionaries(_names, _contents, max_size=4).map(json.dumps) | st.text().map("{{{}".format) | st.text())
def test_any_content_is_read_or_refused(text: str) -> None:
    try:
        found = read_registers(text, WHERE)
    except KexecdbgError as refusal:
        assert str(refusal).startswith(WHERE)
    else:
        assert found.values and all(0 <= value < 1 << 64 for value in found.values.values())
