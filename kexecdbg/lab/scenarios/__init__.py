"""The lab's scenarios: one module per catalogue entry or family, each with ``SCENARIOS``; a new module adds its own.

To add one, for instance for the rule M99, write ``m99.py``::

    from kexecdbg.lab.enable import EnableCase, EnableSetup
    from kexecdbg.lab.scenario import Scenario

    def _unaligned(setup: EnableSetup) -> None:
        setup.registers.ttbr0 |= 0x40

    SCENARIOS = (
        Scenario("M99", "M99", "TTBR0_EL2 with low bits set", EnableCase(defect=_unaligned), frozenset({"M99"})),
    )

``EnableCase()`` is a sound guest that switches the MMU on (kexecdbg/lab/enable.py: regime, granule, block or page
leaves, LPA2, CPU model); ``defect`` gets all of it before it is loaded and spoils one thing: a register, a descriptor,
contents of RAM. The instructions of the switch are the lines of ``sequence``. ``RelocationCase()``
(kexecdbg/lab/relocation.py) is the kexec relocation with a page list; it can be spoilt the same way.

``expected`` names every fatal and hazard finding that is not the consequence of another one, the entry's own among
them. Where QEMU's CPU does not mind the defect, ``qemu_lets_it_pass`` says why, with the source (for a whole entry that
is ``LAXITY[entry].text`` of kexecdbg/checks/qemu_laxity.py); the scenario agrees when the CPU ran on and the check
found the defect. Try it with ``kexecdbg lab run M99``.
"""

from __future__ import annotations

import importlib
import pkgutil
from fnmatch import fnmatchcase
from functools import lru_cache
from types import ModuleType

from kexecdbg.errors import UsageError
from kexecdbg.lab.scenario import Scenario


@lru_cache(maxsize=1)
def modules() -> tuple[ModuleType, ...]:
    """The modules of this package, by name."""
    return tuple(importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))


@lru_cache(maxsize=1)
def all_scenarios() -> dict[str, Scenario]:
    """Every scenario by its id, module by module."""
    return {scenario.id: scenario for module in modules() for scenario in module.SCENARIOS}


def find_scenarios(names: list[str]) -> list[Scenario]:
    """The scenarios with these ids, or with ids that fit these patterns: ``M01``, ``M01*``, ``sound-EL[12]-4K``.

    Raises:
        UsageError: there is no such scenario.
    """
    known = all_scenarios()
    found = {name: [known[name]] if name in known else _matching(name) for name in names}
    unknown = [name for name, scenarios in found.items() if not scenarios]
    if unknown:
        raise UsageError(f"no scenario is called {', '.join(unknown)}; `kexecdbg lab list` lists them")
    return list({scenario.id: scenario for scenarios in found.values() for scenario in scenarios}.values())


def _matching(pattern: str) -> list[Scenario]:
    return [scenario for name, scenario in all_scenarios().items() if fnmatchcase(name, pattern)]
