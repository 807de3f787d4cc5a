"""Scripted sessions on a real kernel."""

from __future__ import annotations

from kexecdbg.session import Session

SECONDS = 180.0
IMAGE_PAGES = 5000
"""Kernel and initramfs are more than 20 MiB."""


def test_from_the_jump_to_the_second_kernel() -> None:
    with Session.linux("max", stop="loaded", ram_mib=768, no_checks=True, timeout=SECONDS) as session:
        relocation = session.expect_relocated()
        assert relocation.verified is not None and relocation.verified > IMAGE_PAGES
        assert session.where().pc == session.registers["PC"]
        session.expect_arrival()
        session.expect_console("init of kernel 2")
