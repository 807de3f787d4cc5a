"""One module per entry of the catalogue, each with a ``RULE``; adding a module adds the rule."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from kexecdbg.checks.rule import Rule


@lru_cache(maxsize=1)
def all_rules() -> tuple[Rule, ...]:
    """Every rule of the catalogue, in the order of their ids."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.RULE for module in modules), key=lambda rule: rule.id))
