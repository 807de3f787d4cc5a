"""M23: Device memory that can be executed, and so can be fetched from speculatively."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kexecdbg.arm64.descriptors import PXN_BIT, UXN_BIT
from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.mapped_ranges import extent, leaf_evidence, usable_ranges
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_leaf
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    ranges = usable_ranges(situation)
    device_type = [item for item in ranges if item.memory_type and item.memory_type.is_device]
    if len(device_type) == len(ranges):
        return  # MAIR_ELx makes all memory Device: M32
    devices = [item for item in device_type if _is_device(situation, item)]
    facts = situation.regime.facts
    bit, name = (PXN_BIT, "PXN") if facts.two_ranges else (UXN_BIT, "XN")
    executable = [item for item in devices if item.privileged.execute]
    if executable:
        repair = None
        if len(executable) == 1:
            repair = change_leaf(situation, executable[0], f"sets bit {bit}, {name}", set_bits=1 << bit)
        yield Finding(
            "M23",
            Severity.HAZARD,
            f"{_describe(executable)} executable at EL{facts.el}: {_grant(situation, executable[0])}. The CPU may "
            f"fetch from it speculatively, which a device can take for a read.{remark('M23')}",
            {**leaf_evidence(situation, executable[0].va), "bit": bit, "name": name, "ranges": len(executable)},
            repair,
        )
    for_el0 = [item for item in devices if item.user is not None and item.user.execute and not item.privileged.execute]
    if for_el0:
        yield Finding(
            "M23",
            Severity.NOTE,
            f"{_describe(for_el0)} executable at EL0: bit {UXN_BIT} (UXN) of the leaf is clear. It matters once EL0 "
            f"runs with these tables.{remark('M23')}",
            {**leaf_evidence(situation, for_el0[0].va), "bit": UXN_BIT, "name": "UXN", "ranges": len(for_el0)},
        )


def _is_device(situation: Situation, item: MappedRange) -> bool:
    """Whether something else than RAM can be there: reads of RAM do no harm, whatever its type."""
    memory_map = situation.memory_map
    if memory_map is None:
        return True
    return next(iter(memory_map.not_memory(item.pa, item.pa + item.size)), None) is not None


def _grant(situation: Situation, item: MappedRange) -> str:
    """Which bit allows the fetch, as the walk says it."""
    return situation.walk(item.va).privileged.execute.because


def _describe(ranges: Sequence[MappedRange]) -> str:
    first = ranges[0]
    assert first.memory_type is not None
    text = f"{first.memory_type.text} memory at {extent(first.va, first.end)}"
    return f"{text} is" if len(ranges) == 1 else f"{text} and {len(ranges) - 1} further ranges are"


RULE = Rule(
    "M23",
    "Device memory is executable",
    "Marking memory as Device does not keep the CPU from fetching instructions there: only execute-never does. A "
    "speculative fetch from a FIFO or a register that clears on read changes the device, or ends in an SError with "
    "no relation to the code that runs.",
    (
        "Arm ARM B2.10.2 (Device memory), D8.4.1.3 (execute-never)",
        "m1n1 96d133e8; EDK2 6bc35cbaca",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="SErrors and lost device data at random, on hardware only.",
)
