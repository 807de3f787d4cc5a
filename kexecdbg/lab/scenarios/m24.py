"""M24: Normal memory mapped where there is no RAM."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.device_tree import Node, flattened
from kexecdbg.lab.enable import BASE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import Use, textbook_sequence

_GIC_DISTRIBUTOR = 0x0800_0000
_HOLE = 0x7_0000_0000
_DEVICE_TREE = BASE + 0x1000_0000
_RESERVED = BASE + 0x1100_0000


def _device(setup: EnableSetup) -> None:
    setup.map(_GIC_DISTRIBUTOR, _GIC_DISTRIBUTOR, Use.DATA)


def _hole(setup: EnableSetup) -> None:
    setup.map(_HOLE, _HOLE, Use.DATA)


def _reserved(setup: EnableSetup) -> None:
    """The secure firmware's page, as the device tree that X21 points to says."""
    setup.map(_RESERVED, _RESERVED, Use.DATA)
    cells = {"#address-cells": (2,), "#size-cells": (2,)}
    firmware = Node("secmon@91000000", {"reg": (_RESERVED >> 32, _RESERVED & 0xFFFF_FFFF, 0, 0x1000), "no-map": ()})
    root = Node("", cells, (Node("reserved-memory", {**cells, "ranges": ()}, (firmware,)),))
    setup.image.place(_DEVICE_TREE, flattened(root))


_POINTS_TO_DEVICE_TREE = (
    f"movz x21, #{_DEVICE_TREE >> 32:#x}, lsl #32",
    f"movk x21, #{_DEVICE_TREE >> 16 & 0xFFFF:#x}, lsl #16",
)


SCENARIOS = (
    *in_regimes("M24", "the GIC mapped as Normal memory", _device, qemu_lets_it_pass=LAXITY["M24"].text),
    *in_regimes(
        "M24",
        "Normal memory mapped where nothing is",
        _hole,
        [Regime.EL2, Regime.EL1_0],
        variant="hole",
        qemu_lets_it_pass=LAXITY["M24"].text,
    ),
    *in_regimes(
        "M24",
        "memory mapped that the device tree reserves with no-map",
        _reserved,
        [Regime.EL2],
        variant="no-map",
        case=EnableCase(sequence=(*_POINTS_TO_DEVICE_TREE, *textbook_sequence(Regime.EL2))),
        qemu_lets_it_pass=LAXITY["M24"].text,
    ),
)
