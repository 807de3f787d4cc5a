"""What the lab loads into guest RAM: pieces by physical address, and QEMU's arguments that load them."""

from __future__ import annotations

from pathlib import Path

from kexecdbg.errors import KexecdbgError

_GAP = 1 << 20
"""Pieces closer than this (bytes) go into one file, zeros between them."""


class RamImage:
    """Contents of guest RAM by physical address."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}

    def place(self, address: int, data: bytes) -> None:
        """Put ``data`` at ``address``.

        Raises:
            KexecdbgError: something is there already.
        """
        for start, existing in self.pieces.items():
            if address < start + len(existing) and start < address + len(data):
                raise KexecdbgError(f"lab image: {address:#x} and {start:#x} overlap")
        self.pieces[address] = data

    def patch(self, address: int, data: bytes) -> None:
        """Replace bytes inside a piece that has been placed."""
        for start, existing in self.pieces.items():
            if start <= address and address + len(data) <= start + len(existing):
                offset = address - start
                self.pieces[start] = existing[:offset] + data + existing[offset + len(data) :]
                return
        raise KexecdbgError(f"lab image: nothing at {address:#x} to patch")

    def runs(self) -> dict[int, bytes]:
        """The pieces joined to few long runs, by start address."""
        joined: dict[int, bytearray] = {}
        start = end = -1
        for address, data in sorted(self.pieces.items()):
            if start < 0 or address - end > _GAP:
                start = end = address
                joined[start] = bytearray()
            joined[start] += bytes(address - end) + data
            end = address + len(data)
        return {address: bytes(data) for address, data in joined.items()}

    def qemu_arguments(self, directory: Path, entry: int) -> list[str]:
        """Write the runs to files in ``directory``; the QEMU arguments that load them and start CPU 0 at ``entry``."""
        arguments = []
        for address, data in self.runs().items():
            path = directory / f"load-{address:x}"
            path.write_bytes(data)
            arguments += ["-device", f"loader,file={path},addr={address:#x},force-raw=on"]
        return [*arguments, "-device", f"loader,addr={entry:#x},cpu-num=0"]
