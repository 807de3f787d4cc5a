"""Stops at every write of a translation table base, and says what the table maps that is about to be used.

kexecdbg run examples/ttbr_writes.py
"""

from kexecdbg.session import Session, lab

TARGET = lab("sound-EL2-4K")


def check_every_ttbr_write(session: Session) -> None:
    writes = 0
    while stop := session.run_to_instruction(r"msr ttbr[01]_el[123]", most=200):
        register, source = stop.instruction.removeprefix("msr ").upper().split(", ")
        root = session.registers[source]
        table = session.table(table="ttbr1" if "1_" in register else "ttbr0", assume={register: root})
        print(f"{stop}: {register} = {root:#x}, {table.entries} descriptors")
        for mapped in table.ranges:
            print(f"  {mapped.va:#x}-{mapped.end:#x} -> {mapped.pa:#x} {mapped.memory_type}")
        assert not table.problems, table.text
        writes += 1
    assert writes, "no write of a translation table base was reached"
