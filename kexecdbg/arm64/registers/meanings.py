"""Meanings of values that several registers share."""

from __future__ import annotations

from kexecdbg.arm64.memory_types import memory_type_of_mair_byte

# Output address size: TCR_EL1.IPS, TCR_EL2.PS, VTCR_EL2.PS, ID_AA64MMFR0_EL1.PARange.
ADDRESS_SIZES = {
    0: "32 bits, 4 GB",
    1: "36 bits, 64 GB",
    2: "40 bits, 1 TB",
    3: "42 bits, 4 TB",
    4: "44 bits, 16 TB",
    5: "48 bits, 256 TB",
    6: "52 bits, 4 PB",
    7: "56 bits, 64 PB (with FEAT_D128; otherwise reserved)",
}
TG0_GRANULES = {0: "4 KB granule", 1: "64 KB granule", 2: "16 KB granule"}
TG1_GRANULES = {1: "16 KB granule", 2: "4 KB granule", 3: "64 KB granule"}
SHAREABILITY = {0: "Non-shareable", 2: "Outer Shareable", 3: "Inner Shareable"}
WALK_CACHEABILITY = {
    0: "Non-cacheable",
    1: "Write-Back RA WA",
    2: "Write-Through RA, no WA",
    3: "Write-Back RA, no WA",
}
TAG_CHECK_FAULTS = {
    0: "tag check faults have no effect",
    1: "tag check faults are synchronous exceptions",
    2: "tag check faults are accumulated asynchronously",
    3: "tag check faults: reads synchronous, writes asynchronous (FEAT_MTE3)",
}
EXCEPTION_LEVELS = {0: "EL0", 1: "EL1", 2: "EL2", 3: "EL3"}

TRAP_EL0_ONLY = {
    0: "trapped at EL0 and EL1",
    1: "trapped at EL0 only",
    2: "trapped at EL0 and EL1",
    3: "not trapped",
}

# One nibble of PIR_ELx and PIRE0_ELx (Arm ARM D8.4.2, table of base permissions).
_INDIRECT_PERMISSIONS = {
    0x0: "no access",
    0x1: "read",
    0x2: "execute",
    0x3: "read, execute",
    0x4: "reserved, no access",
    0x5: "read, write",
    0x6: "read, write (execute if not for WXN)",
    0x7: "read, write, execute",
    0x8: "read, no overlay",
    0x9: "read, Guarded Control Stack, no overlay",
    0xA: "read, execute, no overlay",
    0xB: "reserved, no access",
    0xC: "read, write, no overlay",
    0xD: "reserved, no access",
    0xE: "read, write, execute, no overlay",
    0xF: "reserved, no access",
}
# One nibble of POR_ELx.
_OVERLAY_PERMISSIONS = {
    0: "no access",
    1: "read",
    2: "execute",
    3: "read, execute",
    4: "write",
    5: "read, write",
    6: "write, execute",
    7: "read, write, execute",
}


def indirect_permission(nibble: int) -> str:
    """Base permission of one PIR_ELx nibble."""
    return _INDIRECT_PERMISSIONS[nibble]


def overlay_permission(nibble: int) -> str:
    """Overlay permission of one POR_ELx nibble; values above 7 are reserved."""
    return _OVERLAY_PERMISSIONS.get(nibble, "reserved, no access")


def memory_attribute(byte: int) -> str:
    """Memory type of a MAIR_ELx byte, with the XS attribute where the byte is one of the FEAT_XS forms."""
    if byte == 0xE0:
        return "Normal Write-Back RA WA Tagged, NoTagAccess (FEAT_MTE_PERM; in PAR_EL1 only)"
    text = memory_type_of_mair_byte(byte).text
    is_xs_form = byte in (0x40, 0xA0) or byte in (0x01, 0x05, 0x09, 0x0D)
    return f"{text}, XS=0" if is_xs_form else text


def lower_range(txsz: int) -> str:
    """T0SZ: the range that TTBR0 translates."""
    return f"{64 - txsz}-bit range, 0x0 to {(1 << (64 - txsz)) - 1:#x}{_range_note(txsz)}"


def upper_range(txsz: int) -> str:
    """T1SZ: the range that TTBR1 translates."""
    first = (1 << 64) - (1 << (64 - txsz))
    return f"{64 - txsz}-bit range, {first:#x} to 0xffffffffffffffff{_range_note(txsz)}"


def ipa_size(t0sz: int) -> str:
    """T0SZ of stage 2."""
    return f"{64 - t0sz}-bit IPA{_range_note(t0sz)}"


def _range_note(txsz: int) -> str:
    if txsz < 12:
        return "; below every minimum, IMPLEMENTATION DEFINED or a level 0 fault"
    if txsz < 16:
        return "; needs 52-bit addresses (LVA with 64 KB, or DS=1)"
    if txsz > 48:
        return "; above every maximum"
    return "; needs small tables (FEAT_TTST)" if txsz > 39 else ""


def table_base(baddr: int) -> str:
    """BADDR, bits 47:1 of a TTBR."""
    address = baddr << 1
    wide = (address & 0x3C) << 46
    note = f"; with 52-bit addresses {wide | address & ~0x3F:#x}" if address & 0x3E else ""
    return f"table at {address:#x}{note}"


def wait_delay(exponent: int) -> str:
    """TWEDEL: the delay before a WFE is trapped."""
    return f"at least {1 << (exponent + 8)} cycles before a WFE is trapped"


def block_size(log2_words: int) -> str:
    """A cache size given as log2 of the number of 4-byte words."""
    return f"{4 << log2_words} bytes"
