"""Which functions of a file are checks, and what is said of a file that is no script."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.errors import UsageError
from kexecdbg.session import lab
from kexecdbg.session.script import Script, load_script


def load(folder: Path, text: str) -> Script:
    path = folder / "script.py"
    path.write_text(text)
    return load_script(path)


def test_checks_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("def check_imported(session): ...\n")
    script = load(
        tmp_path,
        "from kexecdbg.session import lab\n"
        "from helpers import check_imported\n"
        "TARGET = lab('M01')\n"
        "def check_b(session): ...\n"
        "def helper(session): ...\n"
        "def check_a(session, most=3): ...\n"
        "def check_alone(): ...\n"
        "def main(session): ...\n",
    )
    assert [(check.name, check.takes_session) for check in script.checks] == [
        ("check_b", True),
        ("check_a", True),
        ("check_alone", False),
    ]
    assert script.target == lab("M01")


def test_main_alone_is_a_check(tmp_path: Path) -> None:
    script = load(tmp_path, "def main(session): ...\n")
    assert [check.name for check in script.checks] == ["main"]
    assert script.target is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def other(session): ...\n", "no check; write functions check_"),
        ("def check_two(good, bad): ...\n", "check_two has 2 parameters"),
        ("async def check_later(session): assert False\n", "check_later is async or has a yield: nothing of it runs"),
        ("def check_later(session):\n    yield\n    assert False\n", "check_later is async or has a yield"),
        ("TARGET = 'M01'\ndef main(session): ...\n", "TARGET is 'M01'; write it as lab("),
    ],
)
def test_what_is_no_script(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"script\.py: ") as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such script"):
        load_script(tmp_path / "missing.py")
