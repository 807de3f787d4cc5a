"""A Linux guest in a QEMU of its own that boots a kernel, loads a second one and lets kexec start it.

Everything of ours in the guest lies in ``/kexecdbg``, so that it goes on top of any initramfs: :data:`INIT` takes
commands from the console, ``kexec`` and the second kernel with its own initramfs are there for it.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.kexec.kernel_elf import open_vmlinux
from kexecdbg.lab.linux import initramfs
from kexecdbg.lab.linux.initramfs import Entry
from kexecdbg.lab.linux.kernel_image import load_image
from kexecdbg.lab.linux.packages import Tools, fetch_kernel, fetch_symbols
from kexecdbg.qemu.process import MachineOptions, QemuProcess
from kexecdbg.qemu.serial_console import SerialConsole

INIT = (Path(__file__).parent / "init.sh").read_bytes()
DEBIAN = Path("debian")
"""In place of a vmlinux: the one that goes with Debian's kernel."""

_HOME = "kexecdbg"
_PARAMETERS = f"console=ttyAMA0 earlycon=pl011,0x9000000 rdinit=/{_HOME}/init"
# arm64's kexec-tools refuses a device tree without a kaslr-seed when it finds one in the running kernel's, and QEMU
# makes one unless told not to: without KASLR there must be no seed either.
_WITHOUT_KASLR = "nokaslr"
_ROOM_MIB = 768
"""What a guest touches: the kernel and its structures, two copies of kernel and initramfs, the relocated ones."""
_DYING = r"(?:Kernel panic - not syncing: |Internal error: |Unable to handle kernel )[^\r\n]*(?=[\r\n])"
_MAX = "max,pauth-impdef=on,lpa2=off"
"""The architected pointer authentication doubles the time of every boot. With LPA2, and so 52-bit addresses, the kernel
of Debian 13 (6.12.107) dies in trans_pgd_create_copy() when a kernel is loaded for kexec."""


@dataclass(frozen=True)
class LinuxGuest:
    """What to boot.

    Attributes:
        cpu: QEMU's CPU model: ``cortex-a57`` has no VHE, ``max`` has; given alone, it gets the fast algorithm of
            pointer authentication, and no FEAT_LPA2, with which kernels were seen to die as a kernel is loaded.
        ram_mib: RAM in MiB.
        cpus: how many CPUs.
        kaslr: whether the kernels place themselves at random.
        its: whether the GIC has its Interrupt Translation Service. The second kernel dies with it: the redistributor
            goes on using the first kernel's LPI tables, which the relocation overwrites.
        icount: QEMU counts instructions, and each takes 2**icount ns of the guest's time (0 to 10); ``None`` for the
            host's time. The CPUs then take turns.
        append: further kernel parameters, for both kernels.
        no_checks: the second kernel is loaded without the digests that purgatory verifies (kexec's ``--no-checks``),
            which takes it longer under TCG than everything else together.
        kernel: an arm64 Image (also gzipped, or EFI zboot), or ``None`` for Debian's.
        vmlinux: the kernel's ELF file with symbols, ``None``, or :data:`DEBIAN`.
        initrd: the user's own initramfs, for both kernels; ours goes on top of it.
        second_kernel: the kernel to kexec; ``None`` for the same again.
        tools: what runs in the guest, or ``None`` for Debian's.
        refresh: fetch Debian's kernel anew.
        say: told what is being fetched.
    """

    cpu: str = "cortex-a57"
    ram_mib: int = 1536
    cpus: int = 1
    kaslr: bool = False
    its: bool = False
    icount: int | None = None
    append: str = ""
    no_checks: bool = False
    kernel: Path | None = None
    vmlinux: Path | None = None
    initrd: Path | None = None
    second_kernel: Path | None = None
    tools: Tools | None = None
    refresh: bool = False
    say: Callable[[str], None] = field(default=lambda text: None)

    @property
    def parameters(self) -> str:
        """The kernel parameters of both kernels."""
        return " ".join(filter(None, (_PARAMETERS, "" if self.kaslr else _WITHOUT_KASLR, self.append)))


@dataclass
class LinuxMachine:
    """A running Linux guest; every waiting method raises :exc:`TargetError` when the kernel dies or time is up.

    Attributes:
        qemu: its QEMU; stopped before the first instruction until :meth:`start`.
        guest: what it was made from.
        symbol_file: the kernel's vmlinux, if there is one.
        phases: seconds by name of what has been waited for, in order.
    """

    qemu: QemuProcess
    guest: LinuxGuest
    symbol_file: Path | None
    phases: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._since = time.monotonic()

    @property
    def console(self) -> SerialConsole:
        """Its serial port."""
        return self.qemu.console

    def start(self) -> None:
        """Let the machine run (or run on); not needed when GDB is connected and continues it."""
        self._since = time.monotonic()
        self.qemu.command("cont")

    def wait_init(self, seconds: float = 120.0) -> str:
        """Wait for the first kernel's init; the kernel's release."""
        return self._phase("boot", r"kexecdbg: init of kernel 1, (\S+)\r?\n", seconds).group(1)

    def run(self, command: str, seconds: float = 60.0) -> str:
        """Run a shell command in the guest and return what it printed, kernel messages in between included.

        Raises:
            TargetError: it failed; the message has its output.
        """
        number = next(self._numbers)
        self.console.send(f"{number} {command}")
        pattern = rf"(?s)kexecdbg: {number} begins\r?\n(.*?)kexecdbg: {number} ends, (\d+)\r?\n"
        match = self._wait(pattern, seconds)
        output = match[1].replace("\r\n", "\n")
        if match[2] != "0":
            raise TargetError(f"in the guest, {command}: status {match[2]}: {output.strip() or 'no message'}")
        return output

    def load_second(self, seconds: float = 120.0) -> None:
        """Have kexec load the second kernel."""
        parameters = f"{self.guest.parameters} kexecdbg.kernel=2"
        self._since = time.monotonic()
        self.run(f"/{_HOME}/load '{parameters}'{' --no-checks' if self.guest.no_checks else ''}", seconds)
        self._end_phase("load")

    def execute(self) -> None:
        """Send ``kexec -e`` and return at once: a guest that is stopped does it when it goes on."""
        self._since = time.monotonic()
        self.console.send(f"{next(self._numbers)} /{_HOME}/execute")

    def wait_second(self, seconds: float = 120.0) -> str:
        """After :meth:`execute`, wait for the second kernel's init; the kernel's release."""
        self._phase("shutdown", r"kexec_core: Starting new kernel(?s:.*?)Bye!", seconds)
        self._phase("relocation", r"Bye!(?s:.*?)Booting Linux on physical CPU", seconds)
        return self._phase("start-up", r"kexecdbg: init of kernel 2, (\S+)\r?\n", seconds).group(1)

    def slide(self) -> int:
        """How far the running kernel lies from where its vmlinux says (KASLR); GDB: ``symbol-file FILE -o SLIDE``.

        Raises:
            EnvironmentProblem: there is no vmlinux to compare with.
        """
        if self.symbol_file is None:
            raise EnvironmentProblem("no vmlinux was given: --vmlinux FILE, or --vmlinux debian")
        # Not _text: the kernel's own table leaves out what lies before the section .text.
        found = re.search(r"^([0-9a-f]{16}) . _stext$", self.run("grep ' _stext$' /proc/kallsyms"), re.MULTILINE)
        if found is None:
            raise TargetError("the guest's /proc/kallsyms does not have _stext")
        return int(found[1], 16) - linked_text(self.symbol_file)

    def addresses(self, names: Sequence[str]) -> dict[str, int]:
        """Where the running kernel has functions and variables, those of ``names`` that its /proc/kallsyms lists."""
        listed = self.run("grep -wE '" + "|".join(names) + "' /proc/kallsyms || true")
        found = re.findall(rf"^([0-9a-f]{{16}}) \w ({'|'.join(names)})$", listed, re.MULTILINE)
        return {name: int(address, 16) for address, name in found}

    def _phase(self, name: str, pattern: str, seconds: float) -> re.Match[str]:
        match = self._wait(pattern, seconds)
        self._end_phase(name)
        return match

    def _end_phase(self, name: str) -> None:
        now = time.monotonic()
        self.phases[name] = now - self._since
        self._since = now

    def _wait(self, pattern: str, seconds: float) -> re.Match[str]:
        match = self.console.wait_for(f"{pattern}|(?P<dying>{_DYING})", seconds)
        if match["dying"] is not None:
            raise TargetError(f"the guest's kernel died: {match['dying']}")
        return match


@contextmanager
def boot_linux(guest: LinuxGuest) -> Iterator[LinuxMachine]:
    """Start ``guest`` in QEMU, stopped before its first instruction; the machine ends with the context.

    >>> with boot_linux(LinuxGuest(cpu="max")) as machine:                      # doctest: +SKIP
    ...     machine.start()
    ...     machine.wait_init()
    ...     machine.load_second()
    ...     machine.execute()
    ...     print(machine.wait_second())

    Raises:
        EnvironmentProblem: QEMU or the packages are missing, or a file that was given is not what it should be.
    """
    options, symbol_file = machine_options(guest)
    with QemuProcess(options) as qemu:
        yield LinuxMachine(qemu, guest, symbol_file)


def machine_options(guest: LinuxGuest) -> tuple[MachineOptions, Path | None]:
    """What QEMU is started with for ``guest``, and the kernel's vmlinux.

    Raises:
        EnvironmentProblem: as :func:`boot_linux`.
    """
    kernel, tools, symbol_file = _files(guest)
    image = load_image(kernel)
    second = load_image(guest.second_kernel) if guest.second_kernel else image
    initrd = build_initrd(tools, second, _read(guest.initrd) if guest.initrd else b"")

    def prepare(directory: Path) -> Sequence[str]:
        (directory / "Image").write_bytes(image)
        (directory / "initrd").write_bytes(initrd)
        return (
            "-kernel", str(directory / "Image"), "-initrd", str(directory / "initrd"),
            "-append", guest.parameters, "-smp", str(guest.cpus),
            *(() if guest.icount is None else ("-icount", f"shift={guest.icount}")),
        )  # fmt: skip

    its, randomness = _on_off(guest.its), _on_off(guest.kaslr)
    machine = f"virtualization=on,gic-version=3,its={its},dtb-randomness={randomness}"
    cpu = _MAX if guest.cpu == "max" else guest.cpu
    return MachineOptions(cpu, guest.ram_mib, machine, _ROOM_MIB, prepare), symbol_file


def build_initrd(tools: Tools, second_kernel: bytes, below: bytes = b"") -> bytes:
    """The first kernel's initramfs: ``below`` (the user's own), and on top of it our files with the second kernel."""
    second_initrd = initramfs.concatenate(below, initramfs.pack(_base(tools)))
    # The dynamic loader by name, as the guest's own libraries may lie anywhere or be others.
    loader = f"/{_HOME}/lib/ld-linux-aarch64.so.1 --library-path /{_HOME}/lib " if tools.libraries else ""
    kexec = f"{loader}/{_HOME}/kexec"
    # The kernel parameters, then further options of kexec.
    load = f'{kexec} -l /{_HOME}/Image --initrd=/{_HOME}/initrd --command-line="$@"'
    entries = [
        *_base(tools),
        initramfs.executable(f"{_HOME}/kexec", _read(tools.kexec)),
        *(initramfs.executable(f"{_HOME}/lib/{path.name}", _read(path)) for path in tools.libraries),
        initramfs.executable(f"{_HOME}/load", f"#!/{_HOME}/busybox sh\nexec {load}\n".encode()),
        initramfs.executable(f"{_HOME}/execute", f"#!/{_HOME}/busybox sh\nexec {kexec} -e\n".encode()),
        initramfs.regular(f"{_HOME}/Image", second_kernel),
        initramfs.regular(f"{_HOME}/initrd", second_initrd),
    ]
    return initramfs.concatenate(below, initramfs.pack(entries))


def linked_text(vmlinux: Path) -> int:
    """The address that ``vmlinux`` is linked to have its section ``.text`` at, ``_stext``.

    Raises:
        EnvironmentProblem: it is not an arm64 kernel's ELF file.
    """
    with open_vmlinux(vmlinux) as elf:
        section = elf.get_section_by_name(".text")
        if section is None:
            raise EnvironmentProblem(f"vmlinux {vmlinux}: it has no section .text; give a kernel's ELF file")
        return int(section["sh_addr"])


def _files(guest: LinuxGuest) -> tuple[Path, Tools, Path | None]:
    """Kernel, tools and vmlinux, from Debian what was not given."""
    if guest.kernel and guest.vmlinux == DEBIAN:
        raise EnvironmentProblem("--vmlinux debian goes with Debian's kernel; give the vmlinux of your own --kernel")
    symbol_file = guest.vmlinux if guest.vmlinux != DEBIAN else None
    if symbol_file:
        linked_text(symbol_file)
    if guest.kernel and guest.tools:
        return guest.kernel, guest.tools, symbol_file
    debian = fetch_kernel(guest.refresh, guest.say)
    if guest.vmlinux == DEBIAN:
        symbol_file = fetch_symbols(debian, guest.say)
    return guest.kernel or debian.image, guest.tools or debian.tools, symbol_file


def _base(tools: Tools) -> list[Entry]:
    return [
        # The kernel opens the console before init can make it.
        initramfs.character_device("dev/console", 5, 1),
        initramfs.character_device("dev/null", 1, 3),
        initramfs.executable(f"{_HOME}/busybox", _read(tools.busybox)),
        initramfs.executable(f"{_HOME}/init", INIT),
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"{path}: {error.strerror}") from error


def _on_off(value: bool) -> str:
    return "on" if value else "off"
