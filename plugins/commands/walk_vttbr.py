"""``walk-vttbr``: translate intermediate physical addresses by the stage 2 tables."""

from __future__ import annotations

import argparse
from typing import Any

from kexecdbg.ui.style import Style

from ..command import evaluate_address, selected_debugger, with_assumptions
from ..walk_command import WalkCommand


class WalkVttbr(WalkCommand):
    """See SUMMARY."""

    NAME = "walk-vttbr"
    SUMMARY = "Walk the stage 2 tables of VTTBR_EL2; addresses are intermediate physical addresses (IPA)."

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.arm64.scan import scan_stage2
        from kexecdbg.arm64.stage2 import stage2_enabled, walk_stage2
        from kexecdbg.ui.walk_json import stage2_json
        from kexecdbg.ui.walk_text import stage2_text

        target = selected_debugger()
        state = with_assumptions(target.state(), arguments.assume)
        remark = "" if stage2_enabled(state) else "stage 2 is off (HCR_EL2.VM); walked as if it were on"
        if not arguments.addresses:
            return self.show_table(arguments, scan_stage2(state, target.memory), remark, style)
        walks = [walk_stage2(state, target.memory, evaluate_address(expression)) for expression in arguments.addresses]
        documents = [{**stage2_json(walk), "as_if_on": bool(remark)} for walk in walks]
        text = "\n\n".join(stage2_text(walk, style) for walk in walks)
        return (documents[0] if len(documents) == 1 else documents), f"{text}\n  note     {remark}" if remark else text


COMMAND = WalkVttbr
