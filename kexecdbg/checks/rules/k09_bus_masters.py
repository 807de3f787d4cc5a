"""K09: at the jump, a device still uses memory that the new image will occupy."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.machine.bus_masters import DeviceBuffer, find_bus_masters


def _check(situation: Situation) -> Iterator[Finding]:
    relocation, memory_map = situation.relocation, situation.memory_map
    if relocation is None or memory_map is None or not relocation.destinations:
        return
    found = find_bus_masters(situation.memory, memory_map)
    for buffer in found.buffers:
        hit = relocation.overwritten(buffer.start, buffer.end)
        if hit is not None:
            yield _in_the_way(buffer, hit)
    if found.unseen:
        yield Finding(
            "K09",
            Severity.NOTE,
            f"Not every device says where it writes: {'; '.join(found.unseen)}.",
            {"devices": len(found.unseen)},
        )


def _in_the_way(buffer: DeviceBuffer, hit: int) -> Finding:
    return Finding(
        "K09",
        Severity.HAZARD,
        f"The new image will lie on the {buffer.what} of {buffer.device}, {buffer.start:#x}-{buffer.end - 1:#x}, which "
        f"is in use: {buffer.consequence}. Switch the device off before the jump, or keep the image away.",
        {
            "device": buffer.device,
            "start": buffer.start,
            "end": buffer.end,
            "address": hit,
            "writes": int(buffer.writes),
            **buffer.registers,
        },
    )


RULE = Rule(
    "K09",
    "A device still uses the new image's memory",
    "Devices go on while the CPU relocates the image. What the old kernel gave them to write to, and did not take "
    "back, is written to in the new image. The GIC's redistributors are the ones that cannot always be stopped: once "
    "GICR_CTLR.EnableLPIs is set, it may stay set. The redistributor then writes pending bits into GICR_PENDBASER's "
    "table; and a Linux that finds LPIs on at boot, and GICR_PROPBASER in memory it has reserved (its own image is), "
    "takes the table over and fills it with 0xa2, the default priority. Reserving the tables across kexec (EFI "
    "LINUX_EFI_MEMRESERVE) keeps images away from them; without EFI nothing does. Rings of virtio and PCI devices are "
    "seen only as far as their registers can be read without a side effect.",
    (
        "Arm IHI 0069, 12.11 (GICR_CTLR.EnableLPIs, GICR_PROPBASER, GICR_PENDBASER)",
        "Linux 6.1 drivers/irqchip/irq-gic-v3-its.c: enabled_lpis_allowed(), gic_check_reserved_range(), "
        "its_setup_lpi_prop_table(), gic_reset_prop_table(), gic_reserve_range()",
        "measured: Debian's arm64 kernel 6.1 under QEMU 7.2.22, -M virt,gic-version=3,its=on: the second kernel says "
        "'Using preallocated redistributor tables', names the first one's table, and dies",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="The new kernel dies early, in code or data full of 0xa2, or bits change that nobody writes.",
)
