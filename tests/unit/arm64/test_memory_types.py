"""MAIR bytes, table walk attributes and shareability."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.memory_types import (
    DEVICE_NGNRNE,
    NORMAL_NON_CACHEABLE,
    NORMAL_WRITE_BACK,
    Shareability,
    combine_shareability,
    effective_shareability,
    memory_type_of_mair_byte,
    walk_memory_type,
)


@pytest.mark.parametrize(
    ("byte", "text"),
    [
        (0x00, "Device-nGnRnE"),
        (0x04, "Device-nGnRE"),
        (0x08, "Device-nGRE"),
        (0x0C, "Device-GRE"),
        (0x01, "Device-nGnRnE"),
        (0x02, "reserved memory type"),
        (0x10, "reserved memory type"),
        (0x40, "Normal Non-cacheable"),
        (0x44, "Normal Non-cacheable"),
        (0xA0, "Normal Write-Through RA"),
        (0xBB, "Normal Write-Through RA WA"),
        (0xEE, "Normal Write-Back RA"),
        (0xF0, "Normal Write-Back RA WA Tagged"),
        (0xFF, "Normal Write-Back RA WA"),
        (0x33, "Normal Write-Through RA WA transient"),
        (0x77, "Normal Write-Back RA WA transient"),
        (0xF4, "Normal inner Non-cacheable, outer Write-Back RA WA"),
        (0x4F, "Normal inner Write-Back RA WA, outer Non-cacheable"),
    ],
)
def test_mair_byte(byte: int, text: str) -> None:
    assert memory_type_of_mair_byte(byte).text == text


def test_every_mair_byte_is_device_normal_or_reserved() -> None:
    types = [memory_type_of_mair_byte(byte) for byte in range(256)]
    assert sum(memory_type.is_device and memory_type.predictable for memory_type in types) == 8
    # 0000xx1x (8 bytes), and xxxx0000 without 00, 40, A0 and F0 (12 bytes).
    assert sum(not memory_type.predictable for memory_type in types) == 20


@pytest.mark.parametrize(
    ("orgn", "irgn", "text"),
    [
        (0, 0, "Normal Non-cacheable"),
        (1, 1, "Normal Write-Back RA WA"),
        (2, 2, "Normal Write-Through RA"),
        (3, 3, "Normal Write-Back RA"),
        (0, 1, "Normal inner Write-Back RA WA, outer Non-cacheable"),
    ],
)
def test_walk_attributes(orgn: int, irgn: int, text: str) -> None:
    assert walk_memory_type(orgn, irgn).text == text


def test_device_and_non_cacheable_are_outer_shareable() -> None:
    assert effective_shareability(DEVICE_NGNRNE, Shareability.NONE) is Shareability.OUTER
    assert effective_shareability(NORMAL_NON_CACHEABLE, Shareability.INNER) is Shareability.OUTER
    assert effective_shareability(NORMAL_WRITE_BACK, Shareability.INNER) is Shareability.INNER


@pytest.mark.parametrize(
    ("first", "second", "combined"), [(0, 0, 0), (0, 3, 3), (3, 2, 2), (2, 0, 2), (3, 3, 3), (1, 0, 0)]
)
def test_combined_shareability(first: int, second: int, combined: int) -> None:
    assert combine_shareability(Shareability(first), Shareability(second)) is Shareability(combined)


@pytest.mark.parametrize(
    ("byte", "xs"),
    [(0x00, True), (0x01, False), (0x40, False), (0x44, True), (0xA0, False), (0xBB, True), (0xFF, False)],
)
def test_xs(byte: int, xs: bool) -> None:
    assert memory_type_of_mair_byte(byte).xs is xs
