"""``python -m tests.bench [NAME...]``: run benchmarks by name, all without one."""

from __future__ import annotations

import argparse
import importlib

_NAMES = ("start", "kernel", "relocate", "record", "record_relocation")


def main() -> None:
    """Run the benchmarks that the command line names."""
    modules = {name: importlib.import_module(f"tests.bench.{name}") for name in _NAMES}
    listing = "\n".join(f"  {name:<18} {module.SUMMARY}" for name, module in modules.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        epilog=f"benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=(*_NAMES, []), default=list(_NAMES), metavar="NAME")
    for name in parser.parse_args().names:
        print(modules[name].run(), flush=True)


if __name__ == "__main__":
    main()
