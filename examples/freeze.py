"""The freeze of 2019: predicted before it happens, seen, repaired, and the relocation arrives.

    kexecdbg run examples/freeze.py

On a recording, which cannot be repaired, so that the last check is skipped:

    kexecdbg record freeze.kxt --scenario A
    kexecdbg run examples/freeze.py --trace freeze.kxt
"""

from kexecdbg.session import Session, lab

TARGET = lab("A")
EXECUTE_NEVER = 0x8600_000F
"""ESR_EL2: an instruction abort without a change of exception level, Permission fault at level 3."""


def check_the_fetch_is_predicted_to_fault(session: Session) -> None:
    switch = session.run_to_switch()
    verdict = session.expect_faults("M01", esr=EXECUTE_NEVER, far=switch.verdict.next_pc)
    print(verdict.causes[0].text)


def check_the_cpu_does_what_was_predicted(session: Session) -> None:
    session.expect_as_predicted(follow=True)
    assert session.why().is_stuck


def check_the_repair_lets_it_arrive(session: Session) -> None:
    session.step_over_switch()
    for repair in session.fix().repairs:
        print(f"{repair.text}: {repair.old:#x} -> {repair.new:#x}")
    session.expect_arrival()
    session.expect_console("arrived whole: 64 pages")
