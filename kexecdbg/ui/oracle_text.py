"""``kexecdbg lab oracle``: random machines, our walk against QEMU's MMU."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from kexecdbg.errors import UsageError
from kexecdbg.lab.oracle.deviations import DEVIATIONS
from kexecdbg.lab.oracle.run import CPUS, Tally, run_oracle
from kexecdbg.ui.style import Style, hanging, style_for

_DEFAULT_COUNT = 20_000
_SHOWN = 10
"""Disagreements that are printed for a person; ``--json`` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lab oracle``."""
    group = parser.add_argument_group("oracle: random registers, tables and addresses, asked of QEMU's MMU")
    group.add_argument("--count", type=int, default=_DEFAULT_COUNT, help=f"cases (default: {_DEFAULT_COUNT})")
    group.add_argument("--seed", default="1", help="the same seed asks the same cases (default: 1)")
    group.add_argument("--cpu", action="append", help=f"QEMU's CPU model; repeatable (default: {', '.join(CPUS)})")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when every answer is the predicted one, or one that a listed deviation explains; else 1."""
    if arguments.count < 1:
        raise UsageError(f"--count {arguments.count}: at least 1 is needed")
    style = style_for(sys.stdout)
    started = time.monotonic()

    def progress(tally: Tally) -> None:
        if sys.stderr.isatty():
            print(f"\r{tally.cases} cases, {len(tally.disagreements)} disagreements", end="", file=sys.stderr)

    tally = run_oracle(arguments.count, arguments.seed, tuple(arguments.cpu or CPUS), progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    seconds = round(time.monotonic() - started, 1)
    if arguments.json:
        print(json.dumps(document(tally, arguments.seed, seconds), indent=1))
    else:
        print("\n".join(lines(tally, seconds, style)))
    return 1 if tally.disagreements else 0


def document(tally: Tally, seed: str, seconds: float) -> dict[str, Any]:
    """The JSON document of a run."""
    per_regime: dict[str, dict[str, int]] = {}
    for (regime, granule), number in sorted(tally.coverage.items()):
        per_regime.setdefault(regime, {})[granule] = number
    return {
        "cases": tally.cases,
        "not_asked": tally.not_asked,
        "seed": seed,
        "disagreements": [disagreement.document() for disagreement in tally.disagreements],
        "deviations": {
            deviation.id: {
                "seen": tally.seen[deviation.id],
                "present": any(deviation.id in ids for ids in tally.present.values()),
                "cpus": [cpu for cpu, ids in tally.present.items() if deviation.id in ids],
                "text": deviation.text,
                "source": deviation.source,
                "open": deviation.choice or deviation.unpredictable,
            }
            for deviation in DEVIATIONS
        },
        "per_regime": per_regime,
        "outcomes": dict(tally.outcomes),
        "seconds": seconds,
    }


def lines(tally: Tally, seconds: float, style: Style) -> list[str]:
    """The same for a person."""
    found = [
        f"{regime:6} {granule:>4}  {number:8} cases" for (regime, granule), number in sorted(tally.coverage.items())
    ]
    found.append("")
    for deviation in DEVIATIONS:
        if any(deviation.id in ids for ids in tally.present.values()):
            label = f"{deviation.id:4} {tally.seen[deviation.id]:7} cases"
            found.append(hanging(label, deviation.text, 20))
    found.append("")
    for disagreement in tally.disagreements[:_SHOWN]:
        found += [style.bad(f"DISAGREES, seed {disagreement.seed}"), json.dumps(disagreement.document()), ""]
    verdict = f"{len(tally.disagreements)} disagreements in {tally.cases} cases"
    found.append(f"{(style.bad if tally.disagreements else style.good)(verdict)}; {seconds:g} s")
    return found
