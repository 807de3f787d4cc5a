"""An installed package works without the repository: the wheel carries what GDB and QEMU need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"qemu-scripts/setup", "qemu-scripts/demo", "qemu-scripts/linux-kexec"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = target.glob("kexecdbg-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def files(*names: str) -> set[str]:
    """Every file of the source tree under ``names``, relative to its root, that an installed package needs."""
    paths = [path for name in names for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
    return {str(path.relative_to(ROOT)) for path in paths if path.suffix != ".pyc"} - NOT_SHIPPED


def test_the_package_is_in_the_wheel(wheel_names: set[str]) -> None:
    assert files("kexecdbg") - wheel_names == set()


def test_the_data_are_in_the_wheel_laid_out_as_in_the_repository(wheel_names: set[str]) -> None:
    expected = {f"kexecdbg/data/{name}" for name in files("plugins", "gdbinit", "qemu-scripts")}
    assert expected - wheel_names == set()
    assert not [name for name in wheel_names if name.endswith(tuple(NOT_SHIPPED))]


def test_nothing_else_is_in_the_wheel(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kexecdbg"}
