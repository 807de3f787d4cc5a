"""The lab's scenarios as a collection: ids, entries, and what is still missing for which rule."""

from __future__ import annotations

import re

import pytest

from kexecdbg.checks.rules import all_rules
from kexecdbg.errors import UsageError
from kexecdbg.lab.scenario import SOUND
from kexecdbg.lab.scenarios import all_scenarios, find_scenarios, modules

SCENARIOS = all_scenarios()
RULES = {rule.id for rule in all_rules()}


def test_no_two_scenarios_have_the_same_id() -> None:
    ids = [scenario.id for module in modules() for scenario in module.SCENARIOS]
    assert len(ids) == len(set(ids)) == len(SCENARIOS)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_has_a_scenario_with_its_id(rule: str) -> None:
    assert SCENARIOS[rule].entry == rule
    assert rule in SCENARIOS[rule].expected


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_expects_the_finding_it_is_filed_under(name: str) -> None:
    scenario = SCENARIOS[name]
    if scenario.entry == SOUND:
        assert scenario.expected == frozenset()
        assert scenario.qemu_shows
    else:
        assert scenario.entry in scenario.expected
        assert scenario.expected <= RULES


@pytest.mark.parametrize("module", [module for module in modules() if re.search(r"\.[mk]\d\d$", module.__name__)])
def test_the_file_of_an_entry_has_its_scenarios(module: object) -> None:
    entry = str(getattr(module, "__name__", "")).rsplit(".", 1)[1].upper()
    assert entry in {scenario.id for scenario in getattr(module, "SCENARIOS", ())}


def test_scenarios_say_what_they_are() -> None:
    summaries = [scenario.summary for scenario in SCENARIOS.values()]
    assert len(set(summaries)) == len(summaries)
    assert all(len(summary) <= 100 and not summary.endswith(".") for summary in summaries)


def test_scenarios_are_found_by_id_in_the_order_asked_for() -> None:
    assert [scenario.id for scenario in find_scenarios(["M05", "A"])] == ["M05", "A"]
    with pytest.raises(UsageError, match="no scenario is called M99, m01; `kexecdbg lab list` lists them"):
        find_scenarios(["M01", "M99", "m01"])


def test_patterns_name_several_scenarios_each_once() -> None:
    found = [scenario.id for scenario in find_scenarios(["M04", "M04*", "sound-EL[12]-64K"])]
    expected = [name for name in SCENARIOS if name.startswith("M04")] + ["sound-EL2-64K", "sound-EL1-64K"]
    assert found == expected
    with pytest.raises(UsageError, match=r"no scenario is called Q99\*"):
        find_scenarios(["Q99*"])
