"""Fault status codes: IFSC, DFSC, PAR_EL1.FST, and the GPT codes of GPC exceptions (Arm ARM D24.2.42, ESR_ELx)."""

from __future__ import annotations

SYNCHRONOUS_EXTERNAL_ABORT = 0x10
ASYNCHRONOUS_SERROR = 0x11
TRANSLATION_STATUS = frozenset({*range(0x04, 0x08), 0x2A, 0x2B})
ADDRESS_SIZE_STATUS = frozenset({*range(0x00, 0x04), 0x29, 0x2C})
ACCESS_FLAG_STATUS = frozenset(range(0x08, 0x0C))
PERMISSION_STATUS = frozenset(range(0x0C, 0x10))

_EXTERNAL = "Synchronous External abort"
_PARITY = "Synchronous parity or ECC error"
_GPF = "Granule Protection Fault"
_ON_WALK = "on translation table walk"

# (first code, first level, number of levels, text)
_SERIES = (
    (0x00, 0, 4, "Address size fault"),
    (0x04, 0, 4, "Translation fault"),
    (0x08, 0, 4, "Access flag fault"),
    (0x0C, 0, 4, "Permission fault"),
    (0x12, -2, 6, f"{_EXTERNAL} {_ON_WALK}"),
    (0x1B, -1, 5, f"{_PARITY} {_ON_WALK}"),
    (0x22, -2, 6, f"{_GPF} {_ON_WALK}"),
    (0x29, -1, 1, "Address size fault"),
    (0x2A, -2, 2, "Translation fault"),
    (0x2C, -2, 1, "Address size fault"),
)
_SINGLE = {
    0x10: f"{_EXTERNAL}, not {_ON_WALK}",
    0x11: "Synchronous Tag Check fault",
    0x18: f"{_PARITY}, not {_ON_WALK}",
    0x21: "Alignment fault",
    0x28: f"{_GPF}, not {_ON_WALK}",
    0x30: "TLB conflict abort",
    0x31: "Unsupported atomic hardware update fault",
    0x34: "IMPLEMENTATION DEFINED fault (Lockdown)",
    0x35: "IMPLEMENTATION DEFINED fault (Unsupported Exclusive or Atomic access)",
}

FAULT_STATUS_TEXTS: dict[int, str] = {
    **{
        first + index: f"{text}, level {level + index}"
        for first, level, count, text in _SERIES
        for index in range(count)
    },
    **_SINGLE,
}

_GPT_TEXTS = {
    0b000000: "GPT address size fault",
    0b000100: "GPT walk fault",
    0b001100: "Granule Protection Fault",
    0b010100: "Synchronous External abort on GPT fetch",
}


def fault_status_text(fsc: int) -> str:
    """The text of a 6-bit fault status code: ``Permission fault, level 3``."""
    return FAULT_STATUS_TEXTS.get(fsc, f"reserved fault status code {fsc:#04x}")


def gpt_status_text(gpcsc: int) -> str:
    """The text of ISS.GPCSC of a Granule Protection Check exception; bit 0 is the GPT level."""
    text = _GPT_TEXTS.get(gpcsc & ~1)
    return f"{text}, GPT level {gpcsc & 1}" if text else f"reserved GPT status code {gpcsc:#04x}"
