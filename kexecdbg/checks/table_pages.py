"""Which memory holds the tables that the code's addresses are translated with."""

from __future__ import annotations

from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE
from kexecdbg.checks.situation import Situation, asked_once


@asked_once
def descriptor_addresses(situation: Situation) -> frozenset[int]:
    """Physical addresses of the descriptors in the walks of all that the code touches after the switch."""
    addresses = [touch.address for touch in situation.touches] or [situation.next_pc]
    return frozenset(level.address for address in addresses for level in situation.walk(address).levels)


def table_pages(situation: Situation) -> frozenset[int]:
    """Numbers of the 4 KiB pages that hold them."""
    return frozenset(address // PAGE_SIZE for address in descriptor_addresses(situation))
