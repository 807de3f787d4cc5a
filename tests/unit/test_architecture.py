"""docs/architecture.md names files that are there, and its examples import what the code has."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w-]+/)`", TEXT)))
STARTS = ("", "kexecdbg", "kexecdbg/checks", "kexecdbg/lab", "tests")
PLACEHOLDERS = re.compile(r"ROOM|NAME|m36|kexec_el")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("path", [path for path in PATHS if not PLACEHOLDERS.search(path)])
def test_a_path_is_there(path: str) -> None:
    assert any((ROOT / start / path).exists() for start in STARTS)


def test_the_examples_import_what_there_is() -> None:
    imports = [
        (node.module, alias.name)
        for example in EXAMPLES
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kexecdbg.")
        for alias in node.names
    ]
    assert len(imports) > 10
    assert [pair for pair in imports if not hasattr(importlib.import_module(pair[0] or ""), pair[1])] == []
