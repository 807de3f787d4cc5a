"""A script: a Python file with functions ``check_*(session)``, or one ``main(session)``, and what they run on."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kexecdbg.errors import UsageError
from kexecdbg.session.target import Target

_MODULE = "kexecdbg_script"
_RUN_NOTHING_WHEN_CALLED = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
"""Such a check would pass, whatever is in it."""


@dataclass(frozen=True)
class Check:
    """One check of a script.

    Attributes:
        name: the function's.
        function: it.
        takes_session: it has a parameter, the session; a check without one opens its own sessions.
    """

    name: str
    function: Callable[..., Any]
    takes_session: bool


@dataclass(frozen=True)
class Script:
    """A script that has been read.

    Attributes:
        path: its file.
        checks: in the order in which they are defined.
        target: what it says that it runs on, ``TARGET``; ``None`` when it says nothing.
    """

    path: Path
    checks: tuple[Check, ...]
    target: Target | None


def load_script(path: Path) -> Script:
    """Import the script at ``path``; its folder is searched for what it imports.

    Raises:
        UsageError: it cannot be read, has no check, or its TARGET is none. What it raises itself comes through.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such script")
    specification = importlib.util.spec_from_file_location(_MODULE, path)
    if specification is None or specification.loader is None:
        raise UsageError(f"{path}: not a Python script; its name has to end in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[_MODULE] = module
    sys.path.insert(0, str(path.resolve().parent))
    specification.loader.exec_module(module)
    target = getattr(module, "TARGET", None)
    if target is not None and not (hasattr(target, "open") and hasattr(target, "name")):
        raise UsageError(
            f'{path}: TARGET is {target!r}; write it as lab("M01"), trace("file.kxt"), attach(":1234"), ...'
        )
    return Script(path, _checks(path, module), target)


def _checks(path: Path, module: ModuleType) -> tuple[Check, ...]:
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == _MODULE and (name.startswith("check_") or name == "main")
    }
    checks = [name for name in own if name != "main"] or list(own)
    if not checks:
        raise UsageError(f"{path}: no check; write functions check_...(session), or one main(session)")
    return tuple(Check(name, own[name], _takes_session(path, name, own[name])) for name in checks)


def _takes_session(path: Path, name: str, function: Callable[..., Any]) -> bool:
    if any(does_not_run(function) for does_not_run in _RUN_NOTHING_WHEN_CALLED):
        raise UsageError(f"{path}: {name} is async or has a yield: nothing of it runs when it is called")
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise UsageError(f"{path}: {name} has {len(needed)} parameters; a check takes the session, or nothing")
    return bool(needed)
