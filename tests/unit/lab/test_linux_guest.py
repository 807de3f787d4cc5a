"""The Linux guest's options: what QEMU is started with, and what is said of files that are not right."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from kexecdbg.errors import EnvironmentProblem, PackagesUnavailable
from kexecdbg.lab.linux import guest, packages
from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, build_initrd, linked_text, machine_options
from kexecdbg.lab.linux.kernel_image import load_image
from kexecdbg.lab.linux.packages import Tools
from kexecdbg.ui.cli import main

IMAGE = bytes(56) + b"ARM\x64" + bytes(range(200))


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    (tmp_path / "busybox").write_bytes(b"BUSYBOX")
    (tmp_path / "kexec").write_bytes(b"KEXEC")
    return Tools(tmp_path / "busybox", tmp_path / "kexec")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "Image"
    path.write_bytes(IMAGE)
    return path


def arguments(wanted: LinuxGuest, directory: Path) -> tuple[str, dict[str, str]]:
    """The machine's properties, and QEMU's further options by name."""
    options, _ = machine_options(wanted)
    words = list(options.prepare(directory))
    return options.machine, dict(zip(words[::2], words[1::2], strict=True))


def test_by_default_neither_kaslr_nor_a_seed_nor_an_its(kernel: Path, tools: Tools, tmp_path: Path) -> None:
    machine, options = arguments(LinuxGuest(kernel=kernel, tools=tools), tmp_path)
    assert machine == "virtualization=on,gic-version=3,its=off,dtb-randomness=off"
    words = options["-append"].split()
    assert words == ["console=ttyAMA0", "earlycon=pl011,0x9000000", "rdinit=/kexecdbg/init", "nokaslr"]
    assert options["-smp"] == "1"
    assert Path(options["-kernel"]).read_bytes() == IMAGE


def test_every_option_reaches_qemu(kernel: Path, tools: Tools, tmp_path: Path) -> None:
    wanted = LinuxGuest("max", 2048, 3, kaslr=True, its=True, append="a=1 b", kernel=kernel, tools=tools)
    qemu, _ = machine_options(wanted)
    machine, options = arguments(wanted, tmp_path)
    assert (qemu.cpu, qemu.ram_mib) == ("max,pauth-impdef=on,lpa2=off", 2048)
    assert machine == "virtualization=on,gic-version=3,its=on,dtb-randomness=on"
    assert options["-append"].endswith("rdinit=/kexecdbg/init a=1 b")
    assert options["-smp"] == "3"
    assert "-icount" not in options
    wanted = LinuxGuest(icount=4, kernel=kernel, tools=tools)
    assert arguments(wanted, tmp_path)[1]["-icount"] == "shift=4"


def test_the_initramfs_has_the_second_kernel_and_lies_on_the_users(tools: Tools) -> None:
    initrd = build_initrd(tools, b"SECOND KERNEL", b"USER'S OWN")
    assert initrd.startswith(b"USER'S OWN")
    assert initrd.count(b"USER'S OWN") == 2, "the second kernel's initramfs has it, too"
    assert initrd.count(b"SECOND KERNEL") == 1
    assert initrd.count(b"BUSYBOX") == 2
    assert b"ld-linux" not in initrd, "a static kexec needs no loader"


def test_a_dynamic_kexec_brings_its_loader(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "ld-linux-aarch64.so.1").write_bytes(b"LOADER")
    dynamic = Tools(tools.busybox, tools.kexec, (tmp_path / "ld-linux-aarch64.so.1",))
    initrd = build_initrd(dynamic, b"")
    assert b"LOADER" in initrd
    assert b"ld-linux-aarch64.so.1 --library-path /kexecdbg/lib /kexecdbg/kexec -l /kexecdbg/Image" in initrd


def zboot(compression: bytes, payload: bytes) -> bytes:
    """An EFI zboot file; the size of the kernel follows the payload."""
    return struct.pack("<8sII8s32s", b"MZ\0\0zimg", 128, len(payload) + 4, b"", compression).ljust(128, b"\0") + payload


@pytest.mark.parametrize(
    "data",
    [
        IMAGE,
        gzip.compress(IMAGE),
        zboot(b"gzip", gzip.compress(IMAGE) + struct.pack("<I", len(IMAGE))),
        zboot(b"xzkern", lzma.compress(IMAGE) + struct.pack("<I", len(IMAGE))),
    ],
    ids=["plain", "gzip", "zboot-gzip", "zboot-xz"],
)
def test_kernels_in_every_form(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(data)
    assert load_image(tmp_path / "vmlinuz") == IMAGE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no arm64 Image"),
        (b"\x7fELF" + bytes(100), "that is an ELF file; give arch/arm64/boot/Image"),
        (gzip.compress(IMAGE)[:-20], "cannot be decompressed"),
        (zboot(b"lz4", b""), "compressed with 'lz4'"),
    ],
    ids=["empty", "vmlinux", "cut off", "unknown compression"],
)
def test_what_is_no_kernel_is_said(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(data)
    with pytest.raises(EnvironmentProblem, match=message):
        load_image(tmp_path / "vmlinuz")


def test_a_vmlinux_must_be_an_elf_file(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="not a sound ELF file"):
        linked_text(kernel)
    with pytest.raises(EnvironmentProblem, match="No such file"):
        linked_text(tmp_path / "none")


def test_debians_symbols_do_not_go_with_another_kernel(kernel: Path, tools: Tools) -> None:
    with pytest.raises(EnvironmentProblem, match="give the vmlinux of your own --kernel"):
        machine_options(LinuxGuest(kernel=kernel, tools=tools, vmlinux=DEBIAN))


def test_nothing_is_fetched_when_kernel_and_tools_are_given(
    kernel: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(guest, "fetch_kernel", fetch)
    assert machine_options(LinuxGuest(kernel=kernel, tools=tools))[1] is None


def test_without_apt_the_message_names_the_files_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("kexecdbg.lab.linux.apt.shutil.which", lambda name: None)
    with pytest.raises(
        PackagesUnavailable, match=r"apt-get, .* not found.*--kernel Image .*--busybox FILE and --kexec"
    ):
        packages.fetch_kernel()
    assert [path.name for path in (tmp_path / "kexecdbg" / "linux").iterdir()] == ["lock"]


def test_a_full_disk_is_noticed_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("kexecdbg.lab.linux.packages.shutil.disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    with pytest.raises(PackagesUnavailable, match="5 MiB free and 300 are needed; set XDG_CACHE_HOME"):
        packages.fetch_kernel()


def test_a_damaged_cache_is_not_the_same_as_packages_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kexecdbg" / "linux" / "debian").mkdir(parents=True)
    with pytest.raises(EnvironmentProblem, match="not what kexecdbg put there") as refused:
        packages.fetch_kernel()
    assert not isinstance(refused.value, PackagesUnavailable)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("linux --icount 11", "QEMU takes 0 to 10"),
        ("linux --gdb --json", "give one of them"),
        ("linux --memory 64", "at least --memory 512"),
        ("linux --busybox x", "--busybox and --kexec go together"),
    ],
)
def test_usage_errors_say_what_to_give(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err
