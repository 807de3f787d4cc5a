"""Fault status codes."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.faults import Cause, CauseKind, Fault, FaultKind

CAUSE = Cause(CauseKind.INVALID_DESCRIPTOR, "a test")


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (FaultKind.ADDRESS_SIZE, [0x29, 0x00, 0x01, 0x02, 0x03]),
        (FaultKind.TRANSLATION, [0x2B, 0x04, 0x05, 0x06, 0x07]),
        (FaultKind.EXTERNAL_ON_WALK, [0x13, 0x14, 0x15, 0x16, 0x17]),
        (FaultKind.ACCESS_FLAG, [None, 0x08, 0x09, 0x0A, 0x0B]),
        (FaultKind.PERMISSION, [None, 0x0C, 0x0D, 0x0E, 0x0F]),
    ],
)
def test_status_codes(kind: FaultKind, codes: list[int | None]) -> None:
    for level, code in enumerate(codes, start=-1):
        if code is not None:
            assert Fault(kind, level, CAUSE).fsc == code


@pytest.mark.parametrize(
    ("kind", "s1ptw", "hpfar"),
    [
        (FaultKind.TRANSLATION, False, 0x1234_5670),
        (FaultKind.ACCESS_FLAG, False, 0x1234_5670),
        (FaultKind.ADDRESS_SIZE, False, 0x1234_5670),
        (FaultKind.PERMISSION, False, None),
        (FaultKind.PERMISSION, True, 0x1234_5670),
        (FaultKind.EXTERNAL_ON_WALK, False, None),
    ],
)
def test_hpfar(kind: FaultKind, s1ptw: bool, hpfar: int | None) -> None:
    assert Fault(kind, 2, CAUSE, stage=2, s1ptw=s1ptw, ipa=0x1_2345_67AB_C).hpfar == hpfar
