"""``kexecdbg decode``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kexecdbg.arm64.register_names import known_name
from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.machine.register_value import parse_register_value
from kexecdbg.ui.style import style_for

if TYPE_CHECKING:
    from kexecdbg.machine.pasted_text import PastedText

SUMMARY = (
    "Decode register values: given as REG=VALUE, or found in pasted text (a mail, a boot log, a Linux oops). "
    "Says whether the control registers agree with each other. The same register twice: what differs."
)

_PAIR = re.compile(r"([A-Za-z]\w*)=(.*)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Pairs and files."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="REG=VALUE | FILE | -",
        help="a register and its value (0x... or decimal; HCR_EL2 and ID registers decide layouts); "
        "a file with text, or - for text on standard input",
    )
    parser.add_argument("--full", action="store_true", help="one line a field for every register")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 1 when the registers, or the table entries in the text, make an access fault."""
    pairs: dict[str, list[int]] = {}
    notes: list[str] = []
    sources: list[str] = []
    for item in arguments.inputs:
        match = _PAIR.fullmatch(item)
        if match is None:
            sources.append(item)
            continue
        name = known_name(match[1])
        value, note = parse_register_value(name, match[2].strip())
        notes += [note] if note else []
        pairs.setdefault(name, []).append(value)
    for note in notes:
        print(f"kexecdbg: {note}", file=sys.stderr)
    pasted = _read(sources) if sources else None
    twice = [name for name, values in pairs.items() if len(values) > 1]
    if twice:
        return _compare(twice, pairs, pasted, arguments)
    return _report({name: values[0] for name, values in pairs.items()}, pasted, sources, arguments)


def _report(pairs: dict[str, int], pasted: PastedText | None, sources: list[str], arguments: argparse.Namespace) -> int:
    from kexecdbg.ui.decode_report import report_on

    if pasted is not None and not pasted.registers and not pasted.walks and not pairs:
        names = ", ".join("standard input" if source == "-" else source for source in sources)
        unknown = f"; no register is called {', '.join(pasted.unknown)}" if pasted.unknown else ""
        raise UsageError(
            f"found no register value in {names}{unknown}; "
            "what is looked for: 'TCR_EL2 0x80843510', 'ESR = 0x96000007', '[address] pgd=..., pte=...'"
        )
    report = report_on(pairs, pasted)
    if arguments.json:
        from kexecdbg.ui.decode_json import report_document

        print(json.dumps(report_document(report), indent=1))
    else:
        from kexecdbg.ui.decode_text import report_text

        print(report_text(report, style_for(sys.stdout), arguments.full))
    return 1 if report.faults else 0


def _compare(
    twice: list[str], pairs: dict[str, list[int]], pasted: PastedText | None, arguments: argparse.Namespace
) -> int:
    from kexecdbg.arm64.registers import decode
    from kexecdbg.arm64.registers.comparison import compare

    (name, *others) = twice
    if others or len(pairs[name]) > 2:
        raise UsageError(f"{' and '.join(twice)}: compare two values of one register at a time")
    context = pasted.values if pasted else {}
    context |= {other: values[0] for other, values in pairs.items() if other != name}
    context.pop(name, None)
    comparison = compare(decode(name, pairs[name][0], context), decode(name, pairs[name][1], context))
    if arguments.json:
        from kexecdbg.ui.register_json import comparison_json

        print(json.dumps({name: comparison_json(comparison)}, indent=1))
    else:
        from kexecdbg.ui.comparison_text import comparison_text

        print(comparison_text(comparison, ("A", "B"), style_for(sys.stdout)))
    return 0


def _read(sources: list[str]) -> PastedText:
    from kexecdbg.machine.pasted_text import read_pasted_text

    return read_pasted_text("\n".join(_text_of(source) for source in sources))


def _text_of(source: str) -> str:
    if source == "-":
        if sys.stdin.isatty():
            print("kexecdbg: paste the text, then press Ctrl-D", file=sys.stderr)
        return sys.stdin.buffer.read().decode(errors="replace")
    try:
        return Path(source).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        raise UsageError(f"{source!r} is neither REG=VALUE nor a file; {_advice(source)}") from None
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"cannot read {source!r}: {error}") from None


def _advice(source: str) -> str:
    """What was probably meant."""
    if source.upper() == source and re.fullmatch(r"[A-Z]\w*", source):
        return f"a register takes its value with '=': {source}=0x..."
    return "give REG=VALUE, the path of a file with text, or - for standard input"
