"""Where QEMU lets a defect pass that the architecture forbids, or that hardware would show.

The catalogue follows the architecture. This is the one place that says where a run in QEMU proves nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Extent(enum.Enum):
    """How much of an entry of the catalogue QEMU's CPU shows."""

    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Laxity:
    """What QEMU does about one entry of the catalogue.

    Attributes:
        extent: whether QEMU shows some of it, or nothing.
        text: why, as a sentence.
        remark: the sentence that a finding ends with.
        sources: where it was measured or is written down.
    """

    extent: Extent
    text: str
    remark: str
    sources: tuple[str, ...]


_MEASURED = "measured: QEMU 7.2.22, -M virt,virtualization=on"
_PTW = "QEMU target/arm/ptw.c, get_phys_addr_lpae()"
_NO_CACHES = (
    "QEMU's memory system has no caches, no write buffers and no speculation: an access sees what was written last, "
    "whatever attributes, barriers and maintenance say."
)
_TCG = "QEMU docs/system/arm/emulation.rst and docs/devel/tcg.rst: no cache model"


def _never(text: str, *sources: str, remark: str = "QEMU does not show it.") -> Laxity:
    return Laxity(Extent.NO, text, remark, sources)


def _partly(text: str, *sources: str, remark: str) -> Laxity:
    return Laxity(Extent.PARTLY, text, remark, sources)


LAXITY: Mapping[str, Laxity] = {
    "M07": _partly(
        "In the layout with one range, QEMU ignores DS unless the output size exceeds 48 bits and the other bits have "
        "little effect; in the layout with two ranges IPS becomes 7 and the fetch ends in an External abort.",
        _MEASURED,
        _PTW,
        remark="QEMU ignores DS while the output size is at most 48 bits.",
    ),
    "M09": _never(
        "QEMU takes the smaller of PS and PARange, and a reserved value for the largest size.",
        _MEASURED,
        "QEMU target/arm/ptw.c, pamax_map",
    ),
    "M13": _partly(
        "QEMU before 8.2 accepts a block at any level below 3; later versions take the Translation fault.",
        _MEASURED,
        "QEMU commit of August 2023 in target/arm/ptw.c; QEMU 10.0 refuses the block",
        remark="QEMU before 8.2 lets it pass.",
    ),
    "M17": _partly(
        "QEMU masks the low bits, as most CPUs do; tables that lie elsewhere because of them are not found.",
        _MEASURED,
        _PTW,
        remark="QEMU masks them.",
    ),
    "M18": _partly(
        "QEMU reads only the descriptors that a program uses; hardware may walk any of them speculatively.",
        _PTW,
        remark="QEMU only walks what the program uses.",
    ),
    "M19": _never("QEMU's TLB starts empty and is flushed by writes of TTBR and TCR.", "QEMU target/arm/helper.c"),
    "M20": _never(_NO_CACHES + " System register writes take effect at once.", _MEASURED, _TCG),
    "M21": _never(_NO_CACHES, _MEASURED, _TCG),
    "M22": _never(_NO_CACHES, _MEASURED, _TCG),
    "M23": _never(_NO_CACHES + " It executes from Device memory.", _MEASURED, _TCG),
    "M24": _never(_NO_CACHES + " Only an access that the program makes can hit what is not memory.", _TCG),
    "M25": _never(_NO_CACHES, _TCG),
    "M26": _never("QEMU's TLB never reports a conflict and holds no walk caches.", "QEMU accel/tcg/cputlb.c"),
    "M28": _never("QEMU resets system registers to known values, mostly zero.", "QEMU target/arm/helper.c"),
    "M31": _partly(
        "QEMU counts the high output address bits of a descriptor only when the output size exceeds 48 bits; beyond "
        "that they are used.",
        _MEASURED,
        _PTW,
        remark="QEMU ignores those bits while the output size is at most 48 bits.",
    ),
    "M32": _never(
        "QEMU executes from memory of any type, reserved ones included.",
        _MEASURED,
        remark="QEMU executes from memory of any type.",
    ),
    "M33": _partly(
        "QEMU checks the alignment of accesses to Device memory from 9.0 on, of all with SCTLR_ELx.A, of SP never.",
        "QEMU commit of 2024 in target/arm (alignment of Device memory)",
        remark="QEMU before 9.0 lets it pass.",
    ),
    "K02": _never(_NO_CACHES, _TCG),
}
"""By catalogue id; QEMU shows the entries that are not listed."""


def remark(rule_id: str) -> str:
    """How a finding of ``rule_id`` says that QEMU will not show it; empty when it does."""
    laxity = LAXITY.get(rule_id)
    return f" {laxity.remark}" if laxity else ""
