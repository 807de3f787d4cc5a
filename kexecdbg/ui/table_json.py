"""A whole translation table as a JSON document; the keys are kept for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from kexecdbg.arm64.ranges import MappedRange, TableScan
from kexecdbg.ui.json_form import Json, number


def table_json(scan: TableScan, ranges: Sequence[MappedRange]) -> Json:
    """A whole table; rights are those of the regime's own exception level, ``user`` those of EL0."""
    return {
        "regime": scan.regime.value if scan.regime else "stage 2",
        "register": scan.register,
        "root": number(scan.root),
        "ranges": [_range(item) for item in ranges],
        "entries": scan.entries,
        "tables": scan.tables,
        "output_is_ipa": scan.output_is_ipa,
        "problems": [
            {
                "kind": problem.kind.name.lower(),
                "text": problem.text,
                "level": problem.level,
                "address": number(problem.address),
                "descriptor": number(problem.descriptor),
                "va": number(problem.va),
                "target": number(problem.target),
            }
            for problem in scan.problems
        ],
        "problems_left_out": scan.problems_left_out,
        "warnings": [cause.text for cause in scan.warnings],
        "assumptions": list(scan.assumptions),
    }


def _range(item: MappedRange) -> Json:
    attributes = item.attributes
    return {
        "va": number(item.va),
        "end": number(item.end),
        "pa": number(item.pa),
        "page_size": item.page_size,
        "level": item.level,
        **asdict(item.privileged),
        "user": asdict(item.user) if item.user else None,
        "memory_type": item.memory_type.text if item.memory_type else None,
        "shareability": attributes.shareability.text if attributes.shareability else None,
        "access_flag": attributes.access_flag,
        "contiguous": attributes.contiguous,
        "guarded": attributes.guarded,
        "dirty_modifier": attributes.dirty_modifier,
        "not_global": attributes.not_global,
        "attributes": number(attributes.descriptor),
    }
