"""Who may import whom: the table of rooms, and GDB's own module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Room -> the rooms it may import from, beside the modules that all may use. import-linter checks the order of the
# layers; this is the exact table.
FOR_ALL = {"errors", "resources", "__version__"}
MAY_IMPORT = {
    "errors": set[str](),
    "resources": set[str](),
    "arm64": set[str](),
    "machine": {"arm64"},
    "qemu": {"machine", "arm64"},
    "kexec": {"machine", "arm64"},
    "checks": {"kexec", "machine", "arm64"},
    "lab": {"checks", "kexec", "qemu", "machine", "arm64"},
    "trace": {"lab", "checks", "kexec", "qemu", "machine", "arm64"},
    "session": {"trace", "lab", "checks", "kexec", "qemu", "machine", "arm64"},
    "ui": {"session", "trace", "lab", "checks", "kexec", "qemu", "machine", "arm64"},
}


def imported_modules(source: str, package: str) -> Iterator[str]:
    """The absolute names of the modules and of the names taken from them, wherever in the file they are imported.

    Args:
        source: Python source text.
        package: the package the file lies in, which relative imports start from.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


@cache
def imports_of(path: Path) -> set[str]:
    return set(imported_modules(path.read_text(), ".".join(path.relative_to(ROOT).parent.parts)))


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_kind_of_import_is_seen() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    from . import e\n    from ..g import h\n"
    assert set(imported_modules(source, "kexecdbg.arm64")) == {"a.b", "c.d", "kexecdbg.arm64.e", "kexecdbg.g.h"}


def test_every_room_is_in_the_table() -> None:
    rooms = {path.parent.name for path in (ROOT / "kexecdbg").glob("*/__init__.py")}
    assert rooms <= MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in [*python_files(f"kexecdbg/{room}"), *(ROOT / "kexecdbg").glob(f"{room}.py")]
        for name in imports_of(path)
        if name.startswith("kexecdbg.") and name.split(".")[1] not in MAY_IMPORT[room] | FOR_ALL | {room}
    ]
    assert wrong == []


def test_only_plugins_import_gdb() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("kexecdbg", "tests", "qemu-scripts")
        for path in python_files(folder)
        if any(name.split(".")[0] == "gdb" for name in imports_of(path))
    ]
    # The benchmarks' own: sourced into GDB to measure the commands, and GDB itself, where they run.
    assert wrong == ["tests/bench/inside_gdb.py", "tests/bench/stepi_loop.py"]
