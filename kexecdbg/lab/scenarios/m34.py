"""M34: SCTLR_ELx.EE says another byte order than the tables have."""

from __future__ import annotations

from kexecdbg.arm64.regimes import SCTLR_EE, Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES, in_regimes
from kexecdbg.lab.scenario import SOUND, Scenario


def _big_endian_walks(setup: EnableSetup) -> None:
    setup.registers.sctlr |= 1 << SCTLR_EE


def _little_endian_walks(setup: EnableSetup) -> None:
    """The tables are big-endian and EE stays 0."""


def _all_big_endian(setup: EnableSetup) -> None:
    """With EE set, the code's own data are big-endian too."""
    _big_endian_walks(setup)
    for symbol in ("uart", "argument"):
        address = setup.program.symbols[symbol]
        piece = next(start for start, data in setup.image.pieces.items() if start <= address < start + len(data))
        offset = address - piece
        setup.image.patch(address, setup.image.pieces[piece][offset : offset + 8][::-1])


SCENARIOS = (
    *in_regimes("M34", "EE set, tables little-endian", _big_endian_walks),
    *in_regimes(
        "M34",
        "EE clear, tables big-endian",
        _little_endian_walks,
        [Regime.EL2, Regime.EL1_0],
        variant="big",
        case=EnableCase(big_endian=True),
    ),
    *(
        Scenario(
            f"{SOUND}-big-endian-{SHORT_NAMES[regime]}",
            SOUND,
            f"{regime.value}: EE set, tables and data big-endian",
            EnableCase(regime, big_endian=True, defect=_all_big_endian),
        )
        for regime in ALL_REGIMES
    ),
)
