"""Which TLB entries a TLBI instruction invalidates: the translation regime, all of it or some (Arm ARM D8.17.5)."""

from __future__ import annotations

import enum
import re

from kexecdbg.arm64.regimes import Regime


class Coverage(enum.Enum):
    """How much of a regime's entries a TLBI invalidates, on the CPU that executes it."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


_SUFFIX = re.compile(r"(IS|OS)?(NXS)?$")
_EL1_WHOLE = frozenset({"VMALLE1", "VMALLS12E1", "ALLE1"})


def coverage(operation: str, regime: Regime, el: int, e2h_and_tge: bool | None) -> Coverage | None:
    """What the instruction ``operation`` (``TLBI VMALLE1IS``), executed at ``el``, does for ``regime``.

    ``e2h_and_tge``: at EL2, whether HCR_EL2.{E2H, TGE} is {1, 1}: then the E1 operations act on EL2&0. ``None`` when
    ``operation`` is no TLBI, or one that this does not know, or that depends on an unknown HCR_EL2.
    """
    if not operation.startswith("TLBI "):
        return None
    name = _SUFFIX.sub("", operation.removeprefix("TLBI "))
    if name == "PAALL":
        return Coverage.ALL
    level = re.search(r"([123])$", name)
    if level is None:
        return None
    target = int(level.group(1))
    if target == 1 and el == 2 and name != "ALLE1" and "S12" not in name and "IPAS2" not in name:
        if e2h_and_tge is None:
            return None
        reached = {Regime.EL2_0} if e2h_and_tge else {Regime.EL1_0}
    else:
        reached = {1: {Regime.EL1_0}, 2: {Regime.EL2, Regime.EL2_0}, 3: {Regime.EL3}}[target]
    if regime not in reached:
        return Coverage.NONE
    return Coverage.ALL if name in _EL1_WHOLE | {"ALLE2", "ALLE3"} else Coverage.SOME
