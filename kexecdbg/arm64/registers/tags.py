"""Memory Tagging: GCR_EL1, RGSR_EL1, TFSR_ELx, TFSRE0_EL1, GMID_EL1 (Arm ARM D23.2)."""

from __future__ import annotations

from kexecdbg.arm64.registers.declare import flag, plain, register, wide
from kexecdbg.arm64.registers.meanings import block_size


def _excluded(tags: int) -> str:
    excluded = ", ".join(str(tag) for tag in range(16) if tags >> tag & 1)
    return f"IRG never gives tag {excluded}" if excluded else "IRG may give every tag"


_TF1 = flag("TF1", 1, "an asynchronous tag fault with VA bit 55 set", "no tag fault with VA bit 55 set")
_TF0 = flag("TF0", 0, "an asynchronous tag fault with VA bit 55 clear", "no tag fault with VA bit 55 clear")

REGISTERS = (
    register(
        "GCR_EL1",
        "Tag Control Register",
        plain(
            flag("RRND", 16, "IRG may use an IMPLEMENTATION DEFINED generator", "IRG uses RGSR_EL1"),
            wide("Exclude", 15, 0, _excluded),
        ),
    ),
    register("RGSR_EL1", "Random Allocation Tag Seed Register", plain(wide("SEED", 23, 8), wide("TAG", 3, 0))),
    register("TFSRE0_EL1", "Tag Fault Status Register (EL0)", plain(_TF1, _TF0)),
    register("TFSR_EL1", "Tag Fault Status Register (EL1)", plain(_TF1, _TF0)),
    register("TFSR_EL2", "Tag Fault Status Register (EL2)", plain(_TF1, _TF0)),
    register("TFSR_EL3", "Tag Fault Status Register (EL3)", plain(_TF0)),
    register("GMID_EL1", "Multiple Tag Transfer ID Register", plain(wide("BS", 3, 0, block_size))),
)
