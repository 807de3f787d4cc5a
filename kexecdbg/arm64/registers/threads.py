"""Registers that hold a number or an address and no fields: CONTEXTIDR, TPIDR, SP_ELx, counters, reset addresses."""

from __future__ import annotations

from kexecdbg.arm64.registers.declare import flag, plain, register, whole, wide
from kexecdbg.arm64.registers.declare import hex_value as as_hex
from kexecdbg.arm64.registers.model import Register

REGISTERS = (
    register("CONTEXTIDR_EL1", "Context ID Register (EL1)", plain(wide("PROCID", 31, 0, as_hex))),
    register("CONTEXTIDR_EL2", "Context ID Register (EL2)", plain(wide("PROCID", 31, 0, as_hex))),
    *(register(f"TPIDR_EL{el}", f"Software Thread ID Register (EL{el})", whole("ThreadID")) for el in (0, 1, 2, 3)),
    register("TPIDRRO_EL0", "Read-Only Software Thread ID Register (EL0)", whole("ThreadID")),
    register("TPIDR2_EL0", "Software Thread ID Register 2 (EL0)", whole("ThreadID")),
    *(register(f"SP_EL{el}", f"Stack Pointer (EL{el})", whole("SP")) for el in (0, 1, 2)),
    Register("SP_EL3", "Stack Pointer (EL3)", None, (whole("SP"),)),
    register("CNTVOFF_EL2", "Counter-timer Virtual Offset Register", whole("VOffset")),
    register("CNTPOFF_EL2", "Counter-timer Physical Offset Register", whole("POffset")),
    register("CNTFRQ_EL0", "Counter-timer Frequency Register", plain(wide("Frequency", 31, 0, lambda hz: f"{hz} Hz"))),
    *(
        register(f"RVBAR_EL{el}", f"Reset Vector Base Address Register (EL{el})", whole("ResetAddress"))
        for el in (1, 2, 3)
    ),
    *(
        register(
            f"RMR_EL{el}",
            f"Reset Management Register (EL{el})",
            plain(flag("RR", 1, "warm reset requested"), flag("AA64", 0, "resets to AArch64", "resets to AArch32")),
        )
        for el in (1, 2, 3)
    ),
)
