"""Debian packages of another architecture through the host's apt, without touching the host's configuration.

apt gets a configuration of its own (``APT_CONFIG``): its own lists, caches and package state in a temporary
directory; of the host it reads the sources, the keys and the settings for the network. Signatures and checksums are
apt's business.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kexecdbg.errors import EnvironmentProblem, PackagesUnavailable

ARCHITECTURE = "arm64"
_DEPENDENCY = re.compile(r"^  Depends: ([a-z0-9][a-z0-9.+-]*)$", re.MULTILINE)
# As root, apt would download as the user _apt, who may not enter a private directory.
_CONFIGURATION = """\
Dir::State "{directory}/state";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
"""
_NETWORK_SETTING = re.compile(r'^Acquire::(?:https?|ftp|ForceIPv[46])\b.*".+";$')
"""Lines of ``apt-config dump`` that say how the host reaches its archives (proxies, certificates)."""


@dataclass(frozen=True)
class Member:
    """One file of a package.

    Attributes:
        path: its path in the root file system, without leading slash.
        link: the target, of a symbolic link.
        content: to read it from, until the next member is asked for; ``None`` for a link.
    """

    path: str
    link: str | None
    content: IO[bytes] | None


class PrivateApt:
    """apt with its whole state below ``directory``.

    Raises:
        PackagesUnavailable: this system has no apt.
    """

    def __init__(self, directory: Path) -> None:
        missing = [tool for tool in ("apt-get", "apt-cache", "apt-config", "dpkg-deb") if shutil.which(tool) is None]
        if missing:
            raise PackagesUnavailable(f"{', '.join(missing)}: not found; this is no Debian system")
        self.directory = directory
        for name in ("state/lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True)
        (directory / "status").touch()
        configuration = directory / "apt.conf"
        text = _CONFIGURATION.format(directory=directory, architecture=ARCHITECTURE)
        configuration.write_text(text + _network_settings())
        self._environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}
        # One source of many may fail and not matter; what is missing in the end is said by name.
        self._update_output = self._run("apt-get", "-q", "update", check=False)

    def version(self, package: str) -> str:
        """The version that would be installed.

        Raises:
            PackagesUnavailable: the host's archives do not have the package, or cannot be reached.
        """
        listing = self._run("apt-cache", "policy", package)
        found = re.search(r"^  Candidate: (\S+)$", listing, re.MULTILINE)
        if found is None or found[1] == "(none)":
            errors = re.findall(r"^(?:E|W|Err): ?.*$", self._update_output, re.MULTILINE)
            said = f"; apt-get update said: {' '.join(errors[:3])}" if errors else ""
            raise PackagesUnavailable(
                f"the archives in this system's apt sources have no {package} for {ARCHITECTURE} (it is in Debian "
                f"main){said}"
            )
        return found[1]

    def dependencies(self, *packages: str) -> list[str]:
        """What ``packages`` depend on directly, by name, alternatives left out."""
        return sorted(set(_DEPENDENCY.findall(self._run("apt-cache", "depends", "--important", *packages))))

    def download(self, packages: Sequence[str]) -> dict[str, Path]:
        """Fetch ``packages`` (names, or NAME=VERSION); the files by name.

        Raises:
            PackagesUnavailable: one cannot be had; apt's own message is in it.
        """
        try:
            self._run("apt-get", "-q", "download", *packages)
        except EnvironmentProblem as error:
            raise PackagesUnavailable(str(error)) from error
        names = [package.partition("=")[0] for package in packages]
        return {name: next(self.directory.glob(f"{name}_*.deb")) for name in names}

    def _run(self, *command: str, check: bool = True) -> str:
        result = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if check and result.returncode:
            last = " ".join(result.stdout.strip().splitlines()[-3:]) or "no message"
            raise EnvironmentProblem(f"{' '.join(command)} failed: {last}")
        return result.stdout


@contextmanager
def members(package: Path) -> Iterator[Iterator[Member]]:
    """The files and links of a package, in its order; reading may stop early."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    # It complains when nobody reads the rest; a broken package is noticed by tarfile.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            yield _members(archive)
    except tarfile.TarError as error:
        raise EnvironmentProblem(f"{package.name}: dpkg-deb cannot unpack it ({error})") from error
    finally:
        process.stdout.close()
        process.terminate()
        process.wait()


def _members(archive: tarfile.TarFile) -> Iterator[Member]:
    for entry in archive:
        path = entry.name.removeprefix("./")
        if entry.issym():
            yield Member(path, entry.linkname, None)
        elif entry.isfile():
            yield Member(path, None, archive.extractfile(entry))


def _network_settings() -> str:
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True).stdout
    return "".join(f"{line}\n" for line in dump.splitlines() if _NETWORK_SETTING.match(line))
