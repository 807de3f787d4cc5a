"""GDB commands: the adapter to GDB and one thin file per command. The only place that says ``import gdb``."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Register every command: each module of :mod:`plugins.commands` has a ``COMMAND`` class."""
    from . import commands, monitor_hook

    monitor_hook.install()
    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}").COMMAND()
