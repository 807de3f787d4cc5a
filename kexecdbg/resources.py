"""The files that are not Python modules: gdbinit, the GDB plug-ins, the lab guest's assembly.

In the source tree they stand at the top level; an installed package carries them in ``kexecdbg/data/`` with the same
layout.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_root() -> Path:
    """The folder that holds ``gdbinit``, ``plugins/`` and ``qemu-scripts/``."""
    installed = _PACKAGE / "data"
    return installed if installed.is_dir() else _PACKAGE.parent
