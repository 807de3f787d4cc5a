"""The arm64 kernel Image out of the forms it is distributed in.

Linux Documentation/arm64/booting.rst: magic "ARM\\x64" at offset 56. Debian's vmlinuz is the gzipped Image; an EFI
zboot file (Linux drivers/firmware/efi/libstub/zboot-header.S) says at its start where the compressed Image lies.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from kexecdbg.errors import EnvironmentProblem

_IMAGE_MAGIC = b"ARM\x64"
_IMAGE_MAGIC_OFFSET = 56
_ZBOOT_MAGIC = b"MZ\0\0zimg"
_ZBOOT_HEADER = struct.Struct("<8sII8s32s")
"""Magic, offset and size of the payload, reserved, name of the compression."""


def load_image(path: Path) -> bytes:
    """The Image in the file at ``path``: as it is, gzipped, or inside an EFI zboot file.

    Raises:
        EnvironmentProblem: the file cannot be read, or there is no arm64 Image in it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"kernel {path}: {error.strerror}") from error
    try:
        image = _unpacked(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise EnvironmentProblem(f"kernel {path}: cannot be decompressed: {error}") from error
    if image[_IMAGE_MAGIC_OFFSET:][:4] == _IMAGE_MAGIC:
        return image
    hint = "that is an ELF file; give arch/arm64/boot/Image" if data.startswith(b"\x7fELF") else "give an Image"
    raise EnvironmentProblem(f"kernel {path}: no arm64 Image (no magic ARM\\x64 at offset 56): {hint}")


def _unpacked(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(_ZBOOT_MAGIC) and len(data) >= _ZBOOT_HEADER.size:
        _, offset, size, _, name = _ZBOOT_HEADER.unpack_from(data)
        # The build's name for it: gzip, xzkern, zstd22.
        compression = name.split(b"\0")[0].decode(errors="replace")
        for prefix, decompress in _DECOMPRESSORS.items():
            if compression.startswith(prefix):
                return decompress(data[offset : offset + size])
        raise EnvironmentProblem(f"an EFI zboot kernel compressed with {compression!r}; give the Image instead")
    return data


def _gunzip(data: bytes) -> bytes:
    # Not gzip.decompress: the payload is followed by its size.
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data)


def _unxz(data: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(data)


def _unzstd(data: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        raise EnvironmentProblem("the kernel is compressed with zstd: install zstd, or give the Image")
    # The size after the payload is no frame; what comes before it is whole all the same.
    result = subprocess.run([program, "-dcq"], input=data, capture_output=True)
    if not result.stdout:
        raise subprocess.CalledProcessError(result.returncode, program, stderr=result.stderr)
    return result.stdout


_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gunzip,
    "xz": _unxz,
    "lzma": _unxz,
    "zstd": _unzstd,
}
