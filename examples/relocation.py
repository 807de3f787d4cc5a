"""A kexec relocation, up to the new kernel: its list audited, every page compared, the boot registers checked.

    kexecdbg run examples/relocation.py

With a real kernel: TARGET = linux(stop="loaded"), which is about to run kexec -e.
"""

from kexecdbg.session import Session, lab

TARGET = lab("B")


def check_the_list_is_sound(session: Session) -> None:
    session.relocate(pages=1)
    image = session.image()
    print(f"{image.layout}: {image.pages} pages")
    assert not image.defects, image.text


def check_every_page_arrives(session: Session) -> None:
    relocation = session.expect_relocated()
    assert relocation.verified == relocation.pages
    assert relocation.differing == 0
    print(f"{relocation.verified} pages compared, the new kernel is at {session.where()}")


def check_the_new_kernel_runs(session: Session) -> None:
    session.expect_relocated()
    session.expect_console("new kernel: arrived whole")
