"""A real kernel boots on a CPU without VHE, and KVM switches the MMU on at EL2 with tables of its own.

    kexecdbg run examples/kvm_el2.py

Debian's kernel and its symbols are fetched once. For your own: linux(kernel="Image", vmlinux="vmlinux").

On a recording of the switch, which needs no symbols:

    kexecdbg run examples/kvm_el2.py --trace tests/traces/nvhe-kvm.kxt
"""

from kexecdbg.session import Session, linux

TARGET = linux("cortex-a57", vmlinux="debian", ram_mib=1024)
KVM_INIT = "__kvm_nvhe____kvm_hyp_init"
IMAGE_ALIGNMENT = 0x20_0000
"""Linux Documentation/arch/arm64/booting.rst: an Image lies at a multiple of 2 MiB."""


def check_kvm_switches_the_mmu_on(session: Session) -> None:
    if not session.is_recording:
        session.run_to(address_of_image(session) + offset_in_image(session, KVM_INIT))
    switch = session.run_to_switch()
    print(f"{switch.site:#x} at EL{switch.verdict.el}, regime {switch.verdict.regime.value}")

    session.expect_sound()
    session.expect_register("HCR_EL2", 0, mask=1 << 34)  # E2H: the EL2 regime, not EL2&0
    session.expect_mapped(switch.verdict.next_pc, execute=True)
    session.expect_as_predicted()
    if not session.is_recording:
        session.expect_console("init of kernel 1")


def address_of_image(session: Session) -> int:
    """Where the kernel lies: the first switch that it makes is in __enable_mmu."""
    enable_mmu = session.step_over_switch().site
    return (enable_mmu - offset_in_image(session, "__enable_mmu")) & -IMAGE_ALIGNMENT


def offset_in_image(session: Session, symbol: str) -> int:
    return session.evaluate(f"&{symbol}") - session.evaluate("&_text")
