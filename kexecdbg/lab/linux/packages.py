"""Debian's arm64 kernel, its symbols and the guest's tools, fetched once into the user's cache.

The cache is ``$XDG_CACHE_HOME/kexecdbg/linux`` (``~/.cache/...``): ``debian/`` with the kernel and the tools, and
``vmlinux-RELEASE`` once the symbols were asked for. Each appears whole or not at all; a lock keeps two processes from
fetching at once.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from kexecdbg.errors import EnvironmentProblem, PackagesUnavailable
from kexecdbg.lab.linux.apt import PrivateApt, members

_KERNEL = "linux-image-cloud-arm64"
_BUSYBOX = "busybox-static"
_KEXEC = "kexec-tools"
_LOADER = "ld-linux-aarch64.so.1"
_ROOM_FOR_KERNEL = 300 << 20
_ROOM_FOR_SYMBOLS = 1 << 30
"""Bytes free that fetching needs at its height: the package and what is taken out of it."""

WITHOUT_APT = (
    "Without Debian's archives give --kernel Image (arm64, with CONFIG_KEXEC and a PL011 console) and, both statically "
    "linked for arm64, --busybox FILE and --kexec FILE"
)


@dataclass(frozen=True)
class Tools:
    """What runs in the guest.

    Attributes:
        busybox: the statically linked program.
        kexec: the program of kexec-tools.
        libraries: what ``kexec`` is linked with, the dynamic loader among it; empty for a static one.
    """

    busybox: Path
    kexec: Path
    libraries: tuple[Path, ...] = ()


@dataclass(frozen=True)
class DebianKernel:
    """Debian's kernel in the cache.

    Attributes:
        image: the kernel.
        release: what ``uname -r`` says.
        tools: what runs in the guest.
        packages: versions by package.
    """

    image: Path
    release: str
    tools: Tools
    packages: Mapping[str, str]


def cache_directory() -> Path:
    """Where what was fetched is kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification has relative paths ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "kexecdbg" / "linux"


def fetch_kernel(refresh: bool = False, say: Callable[[str], None] = lambda text: None) -> DebianKernel:
    """Debian's kernel and tools: from the cache, else from Debian (25 MB).

    Args:
        refresh: fetch even though the cache has them: a newer kernel may have come.
        say: told what is being fetched.

    Raises:
        PackagesUnavailable: they cannot be had; the message says why, and what to give instead.
        EnvironmentProblem: what came, or what is in the cache, is not what it should be.
    """
    cache = cache_directory()
    place = cache / "debian"
    if refresh or not place.exists():
        with _workshop(cache, _ROOM_FOR_KERNEL) as workshop:
            if refresh or not place.exists():
                say(f"fetching Debian's arm64 kernel and kexec-tools into {cache} (25 MB, once)")
                made = _make_kernel(workshop)
                if place.exists():
                    place.rename(workshop / "old")
                made.rename(place)
                release = _read(place).release
                for stale in cache.glob("vmlinux-*"):
                    if stale.name != f"vmlinux-{release}":
                        stale.unlink()
    return _read(place)


def fetch_symbols(kernel: DebianKernel, say: Callable[[str], None] = lambda text: None) -> Path:
    """The vmlinux with debug information that goes with ``kernel``: from the cache, else from Debian (260 MB).

    Raises:
        PackagesUnavailable: it cannot be had.
        EnvironmentProblem: what came is not what it should be.
    """
    cache = cache_directory()
    place = cache / f"vmlinux-{kernel.release}"
    if not place.exists():
        with _workshop(cache, _ROOM_FOR_SYMBOLS) as workshop:
            if not place.exists():
                say(f"fetching the debug vmlinux of {kernel.release} into {cache} (260 MB, once; 270 MB remain)")
                _make_symbols(workshop, kernel).rename(place)
    return place


@contextmanager
def _workshop(cache: Path, room: int) -> Iterator[Path]:
    """A directory in the cache for one fetch at a time, gone afterwards."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PackagesUnavailable(f"{cache}: {error.strerror}; set XDG_CACHE_HOME to a writable directory") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_behind in cache.glob("fetching-*"):
            shutil.rmtree(left_behind)
        if (free := shutil.disk_usage(cache).free) < room:
            raise PackagesUnavailable(
                f"{cache}: {free >> 20} MiB free and {room >> 20} are needed; set XDG_CACHE_HOME to where there is room"
            )
        workshop = Path(tempfile.mkdtemp(prefix="fetching-", dir=cache))
        try:
            yield workshop
        except OSError as error:
            raise EnvironmentProblem(f"fetching into {cache} failed: {error}") from error
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    finally:
        os.close(lock)


def _make_kernel(workshop: Path) -> Path:
    apt = _apt(workshop)
    # linux-image-cloud-arm64 names the newest kernel by depending on it.
    kernels = [name for name in apt.dependencies(_required(apt, _KERNEL)) if name.startswith("linux-image-")]
    if len(kernels) != 1:
        raise EnvironmentProblem(f"{_KERNEL} depends on {' and '.join(kernels) or 'no kernel'}; expected one kernel")
    (kernel,) = kernels
    libraries = _library_packages(apt, _KEXEC)
    wanted = [kernel, _BUSYBOX, _KEXEC, *libraries]
    versions = {name: _required_version(apt, name) for name in wanted}
    packages = apt.download(wanted)
    made = workshop / "debian"
    made.mkdir()
    release = _take_kernel(packages[kernel], made / "Image")
    _take(packages[_BUSYBOX], "bin/busybox", made / "busybox")
    _take(packages[_KEXEC], "sbin/kexec", made / "kexec")
    _take_libraries(made / "kexec", [packages[name] for name in libraries], made / "lib")
    description = {"release": release, "kernel": kernel, "packages": versions}
    (made / "description.json").write_text(json.dumps(description, indent=1))
    return made


def _make_symbols(workshop: Path, kernel: DebianKernel) -> Path:
    package = f"linux-image-{kernel.release}"
    version = kernel.packages[package]
    try:
        downloaded = _apt(workshop).download([f"{package}-dbg={version}"])[f"{package}-dbg"]
    except PackagesUnavailable as error:
        raise PackagesUnavailable(
            f"{error}. Debian keeps only the newest kernel's symbols: `kexecdbg linux --refresh --vmlinux debian` "
            "fetches the newest kernel together with its symbols"
        ) from error
    made = workshop / "vmlinux"
    _take(downloaded, f"boot/vmlinux-{kernel.release}", made)
    return made


def _apt(workshop: Path) -> PrivateApt:
    directory = workshop / "apt"
    directory.mkdir()
    try:
        return PrivateApt(directory)
    except PackagesUnavailable as error:
        raise PackagesUnavailable(f"{error}. {WITHOUT_APT}") from error


def _required(apt: PrivateApt, package: str) -> str:
    _required_version(apt, package)
    return package


def _required_version(apt: PrivateApt, package: str) -> str:
    try:
        return apt.version(package)
    except PackagesUnavailable as error:
        raise PackagesUnavailable(f"{error}. {WITHOUT_APT}") from error


def _library_packages(apt: PrivateApt, package: str) -> list[str]:
    """The packages with libraries that ``package`` depends on, at any remove."""
    found = set[str]()
    front = [package]
    while front:
        front = [name for name in apt.dependencies(*front) if name.startswith(("lib", "zlib")) and name not in found]
        found.update(front)
    return sorted(found)


def _take_kernel(package: Path, place: Path) -> str:
    """Copy the kernel; its release."""
    with members(package) as files:
        for member in files:
            if member.path.startswith("boot/vmlinuz-") and member.content is not None:
                with place.open("wb") as target:
                    shutil.copyfileobj(member.content, target)
                return member.path.removeprefix("boot/vmlinuz-")
    raise EnvironmentProblem(f"{package.name}: no boot/vmlinuz-* in it")


def _take(package: Path, ending: str, place: Path) -> None:
    """Copy the file whose path ends with ``ending`` (Debian moves programs from ``/`` to ``/usr``)."""
    with members(package) as files:
        for member in files:
            if f"/{member.path}".endswith(f"/{ending}") and member.content is not None:
                with place.open("wb") as target:
                    shutil.copyfileobj(member.content, target, 1 << 20)
                return
    raise EnvironmentProblem(f"{package.name}: no {ending} in it")


def _take_libraries(program: Path, packages: list[Path], place: Path) -> None:
    """Copy every library that ``program`` needs, under the name it is asked for by."""
    libraries: dict[str, bytes | str] = {}
    for package in packages:
        with members(package) as files:
            for member in files:
                name = posixpath.basename(member.path)
                if ".so" not in name:
                    continue
                if member.content is not None:
                    libraries[name] = member.content.read()
                elif member.link is not None and (target := posixpath.basename(member.link)) != name:
                    libraries.setdefault(name, target)
    place.mkdir()
    needed = {_LOADER, *_needed(program.read_bytes())}
    done = set[str]()
    while needed - done:
        for name in sorted(needed - done):
            done.add(name)
            data: bytes | str | None = libraries.get(name)
            while isinstance(data, str):
                data = libraries.get(data)
            if data is None:
                raise EnvironmentProblem(f"kexec needs {name}, which is in no package that kexec-tools depends on")
            (place / name).write_bytes(data)
            needed |= _needed(data)


def _needed(data: bytes) -> set[str]:
    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(".dynamic")
    except ELFError as error:
        raise EnvironmentProblem(f"a program or library of Debian's is no ELF file: {error}") from error
    if not isinstance(section, DynamicSection):
        return set()
    return {str(tag.needed) for tag in section.iter_tags("DT_NEEDED")}  # type: ignore[attr-defined]  # set by pyelftools


def _read(place: Path) -> DebianKernel:
    try:
        description = json.loads((place / "description.json").read_text())
        tools = Tools(place / "busybox", place / "kexec", tuple(sorted((place / "lib").iterdir())))
        return DebianKernel(place / "Image", description["release"], tools, description["packages"])
    except (OSError, ValueError, KeyError) as error:
        raise EnvironmentProblem(f"{place}: not what kexecdbg put there ({error}); remove it") from error
