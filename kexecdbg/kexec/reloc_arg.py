"""``struct kern_reloc_arg``: what the 2019 series passes to the relocation code in x0, as it changed.

All fields are 64 bits wide and hold physical addresses, but for ``src_addr`` and ``dst_addr``.
"""

from __future__ import annotations

from kexecdbg.kexec.argument import Addressing, ArgumentLayout, Role

_COMMON = ("head", "entry_addr", "kern_arg0", "kern_arg1", "kern_arg2", "kern_arg3")
_COMMON_ROLES = {Role.HEAD: "head", Role.ENTRY: "entry_addr", Role.DEVICE_TREE: "kern_arg0"}


def _layout(
    name: str, fields: tuple[str, ...], roles: dict[Role, str], addressing: Addressing, source: str
) -> ArgumentLayout:
    names = (*_COMMON, *fields)
    offsets = {field: 8 * position for position, field in enumerate(names)}
    return ArgumentLayout(
        f"struct kern_reloc_arg, {name}", offsets, _COMMON_ROLES | roles, addressing, 8 * len(names), source
    )


RFC_V2 = _layout(
    "RFC v2",
    ("trans_table",),
    {Role.TTBR0: "trans_table"},
    Addressing.IDENTITY,
    "[RFC v2 8/8] 20190731153857.4045-9-pasha.tatashin@soleen.com",
)
PATCH_V1 = _layout(
    "PATCH v1",
    ("trans_ttbr0", "trans_ttbr1", "el2_vector", "src_addr", "dst_addr", "copy_len"),
    {Role.TTBR0: "trans_ttbr0", Role.TTBR1: "trans_ttbr1", Role.EL2_VECTORS: "el2_vector"},
    Addressing.CONTIGUOUS,
    "[PATCH v1 7/8] of 20190801152439.11363-1-pasha.tatashin@soleen.com",
)
PATCH_V9 = _layout(
    "PATCH v9",
    ("el2_vector", "trans_ttbr0", "trans_ttbr1", "trans_t0sz", "src_addr", "dst_addr", "copy_len"),
    {
        Role.TTBR0: "trans_ttbr0",
        Role.TTBR1: "trans_ttbr1",
        Role.T0SZ: "trans_t0sz",
        Role.EL2_VECTORS: "el2_vector",
    },
    Addressing.CONTIGUOUS,
    "20200326032420.27220-1-pasha.tatashin@soleen.com (the offsets follow from the order of the fields)",
)
