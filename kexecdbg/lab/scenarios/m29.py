"""M29: what the code needs after the switch is not mapped."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import AF_BIT, AP2_BIT
from kexecdbg.lab.enable import LITERALS, UART, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _no_stack(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(setup.stack, setup.leaf_level, 0)


def _stack_read_only(setup: EnableSetup) -> None:
    setup.change_leaf(setup.stack, set_bits=1 << AP2_BIT)


def _no_literal(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(LITERALS, setup.leaf_level, 0)


def _no_argument(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(setup.argument, setup.leaf_level, 0)


def _argument_not_accessed(setup: EnableSetup) -> None:
    setup.change_leaf(setup.argument, clear_bits=1 << AF_BIT)


def _no_uart(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(UART, setup.leaf_level, 0)


SCENARIOS = (
    *in_regimes("M29", "the stack is not mapped", _no_stack),
    *in_regimes("M29", "the stack is read-only", _stack_read_only, variant="read-only"),
    *in_regimes("M29", "the literal pool is not mapped", _no_literal, variant="literal"),
    *in_regimes("M29", "the argument is not mapped", _no_argument, variant="argument"),
    *in_regimes("M29", "the Access flag of the argument is clear", _argument_not_accessed, variant="AF"),
    *in_regimes("M29", "the UART is not mapped", _no_uart, variant="UART"),
)
