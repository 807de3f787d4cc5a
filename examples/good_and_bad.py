"""Where a good machine and a bad one part: the registers at the switch, then the walk of the next instruction.

    kexecdbg run examples/good_and_bad.py

TARGET is the bad one, so that --trace and --attach replace it; GOOD can be a recording too: trace("good.kxt").
"""

from kexecdbg.session import Session, Walk, lab

TARGET = lab("A")
GOOD = lab("B")


def check_where_they_part(bad: Session) -> None:
    with Session(GOOD) as good:
        site, next_pc = good.run_to_switch().site, good.check().next_pc
        assert bad.run_to_switch().site == site

        expected, found = good.registers.snapshot(), bad.registers.snapshot()
        registers = [name for name, value in expected.items() if found.get(name) != value]
        print(f"registers that differ: {', '.join(registers) or 'none'}")

        descriptors = differing_descriptors(good.walk(next_pc), bad.walk(next_pc))
        for line in descriptors:
            print(line)
        assert registers or descriptors, "the same registers and the same walk: they part later"


def differing_descriptors(good: Walk, bad: Walk) -> list[str]:
    """The levels at which two walks meet different descriptors, and the bits that make the difference."""
    lines = []
    for ours, theirs in zip(good.levels, bad.levels, strict=False):
        if ours.descriptor is not None and theirs.descriptor is not None and ours.descriptor != theirs.descriptor:
            bits = ours.descriptor ^ theirs.descriptor
            values = f"good {ours.descriptor:#x}, bad {theirs.descriptor:#x}, bits {bits:#x} differ"
            lines.append(f"level {ours.level} at {ours.address:#x}: {values}")
    return lines
