"""M32: the code is mapped as Device or reserved memory."""

from __future__ import annotations

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import CODE, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes

_ATTR_INDX = field_mask(4, 2)
_DEVICE_NGNRNE = 3 << 2
_LINUX_5_3_MAIR = 0xBBFF_440C_0400
"""MAIR_EL1_SET of Linux 5.3: Normal Write-Back is index 4, and index 0 is Device-nGnRnE."""


def _device(setup: EnableSetup) -> None:
    setup.change_leaf(CODE, clear_bits=_ATTR_INDX, set_bits=_DEVICE_NGNRNE)


def _reserved(setup: EnableSetup) -> None:
    """The index of the code's page leads to a byte that means nothing."""
    setup.change_leaf(CODE, clear_bits=_ATTR_INDX, set_bits=7 << 2)
    setup.registers.mair |= 0x02 << 56


def _other_order(setup: EnableSetup) -> None:
    """Tables of a kernel whose Normal memory is index 0, MAIR of one where that is Device memory."""
    setup.registers.mair = _LINUX_5_3_MAIR


SCENARIOS = (
    *in_regimes("M32", "the code's page is Device memory", _device, qemu_lets_it_pass=LAXITY["M32"].text),
    *in_regimes(
        "M32",
        "the code's page has a reserved memory type",
        _reserved,
        [Regime.EL2],
        variant="reserved",
        qemu_lets_it_pass=LAXITY["M32"].text,
    ),
    *in_regimes(
        "M32",
        "tables of Linux 6.1 with the MAIR of Linux 5.3: RAM becomes Device memory, the UART Normal",
        _other_order,
        [Regime.EL2, Regime.EL1_0],
        variant="order",
        also=["M22", "M24"],
        qemu_lets_it_pass=LAXITY["M32"].text,
    ),
)
