"""An installed package works without the repository: the wheel carries what GDB and QEMU need."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from kexecdbg import __version__

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"qemu-scripts/setup", "qemu-scripts/demo", "qemu-scripts/linux-kexec"}


def build(source: Path, target: Path, *kinds: str) -> None:
    options = [option for kind in kinds for option in ("-t", kind)]
    command = [sys.executable, "-m", "hatchling", "build", *options, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    target = tmp_path_factory.mktemp("built")
    build(ROOT, target, "sdist", "wheel")
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("kexecdbg-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel in it; the packages it needs are those of this one."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    # Its own kexecdbg comes first on the path; a .pth in a folder named by a .pth, our editable one, is not read.
    (packages / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


def said(installed: Path, folder: Path, *arguments: str) -> str:
    """What the installed command prints when it is started in ``folder``."""
    command = [str(installed / "kexecdbg"), *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


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


def test_it_is_typed(wheel_names: set[str]) -> None:
    assert "kexecdbg/py.typed" in wheel_names


def test_the_wheel_of_the_source_distribution_is_the_same(built: Path, wheel: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("kexecdbg-*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (folder,) = tmp_path.iterdir()
    build(folder, tmp_path / "again", "wheel")
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {name: first.read(name) for name in first.namelist()} == {
            name: second.read(name) for name in second.namelist()
        }


def test_an_installed_package_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    version = said(installed, tmp_path, "--version").splitlines()
    assert version[0] == f"kexecdbg {__version__}"
    assert version[1].startswith("Python 3.") and "missing" not in version[1]
    script = Path(said(installed, tmp_path, "gdbinit").strip())
    assert script.is_file() and script.is_relative_to(installed.parent)
    assert said(installed, tmp_path, "decode", "ESR_EL2=0x8600000f").startswith("ESR_EL2 0x8600000f: Instruction Abort")
    assert "M01" in said(installed, tmp_path, "lab", "list")


def test_what_is_told_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        told = opened.read(name).decode()
    for line in (f"Version: {__version__}", "License-Expression: MIT", "Classifier: Typing :: Typed"):
        assert f"\n{line}\n" in told
    assert f"\n## {__version__} - " in (ROOT / "CHANGELOG.md").read_text()
