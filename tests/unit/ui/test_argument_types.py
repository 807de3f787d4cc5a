"""Numbers on command lines."""

from __future__ import annotations

import argparse

import pytest

from kexecdbg.ui.argument_types import count, positive_count, positive_seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "", "soon"])
def test_no_time_at_all_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        positive_seconds(text)


def test_more_than_can_be_waited_for_is_a_long_time() -> None:
    assert positive_seconds("0.5") == 0.5
    assert positive_seconds("inf") == positive_seconds("1e300") > 20 * 24 * 3600


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many"])
def test_no_count_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        positive_count(text)
    assert positive_count("3") == 3


def test_a_limit_may_be_none_at_all() -> None:
    assert count("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="at least 0"):
        count("-1")
