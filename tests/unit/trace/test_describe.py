"""What a trace's header says, and does not say, of the machine that it was recorded on."""

from __future__ import annotations

import pytest

from kexecdbg.errors import UsageError
from kexecdbg.trace.recording.describe import without_directories
from kexecdbg.trace.recording.result import Limits


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/home/somebody/qemu/build/qemu-system-aarch64", "qemu-system-aarch64"),
        (
            "memory-backend-file,id=ram,mem-path=/dev/shm/a b/ram,share=on",
            "memory-backend-file,id=ram,mem-path=ram,share=on",
        ),
        ("unix:/tmp/one/gdb.sock,server=on", "unix:gdb.sock,server=on"),
        ("virt,virtualization=on", "virt,virtualization=on"),
    ],
)
def test_directories_are_left_out(word: str, kept: str) -> None:
    assert without_directories(["-x", word]) == ("-x", kept)


def test_the_kernel_s_parameters_are_the_guest_s() -> None:
    assert without_directories(["-append", "root=/dev/vda init=/sbin/init"])[1] == "root=/dev/vda init=/sbin/init"


def test_an_end_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^until 0x40200007: no instruction .*, 0x40200004 is the one before$"):
        Limits(until=frozenset({0x4020_0007}))
