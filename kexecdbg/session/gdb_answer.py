"""What GDB answers to one command, put together from the GDB/MI records that come meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_RAISED_IN_PYTHON = re.compile(r"^Traceback .*:\n(?:[ \t].*\n)+(?:gdb\.GdbError: )?(.+)", re.MULTILINE)
"""What a traceback ends with: GDB 13's error message after a script, or ``python``, is only that there was an error."""
_IN_A_SCRIPT = re.compile(r"^.+:\d+: Error in sourced command file:\n")
"""Before the message of what went wrong in a script."""


class GdbAnswer:
    """The answer to the command with ``token``; it is complete when the command with the next token is answered.

    Args:
        token: of the command.
        tell: is given everything that is printed for a person, at once; never an empty text.

    Attributes:
        problem: the message of the command's error; ``None`` when it had none.
        is_complete: whether nothing more belongs to it.
    """

    def __init__(self, token: int, tell: Callable[[str], None]) -> None:
        self.problem: str | None = None
        self.is_complete = False
        self._token = token
        self._tell = tell
        self._printed: list[str] = []
        self._logged: list[str] = []

    @property
    def printed(self) -> str:
        """What the command, or what is debugged, has printed; warnings are left out."""
        return "".join(self._printed)

    def take(self, record: Mapping[str, Any]) -> None:
        """Take the next record, as :class:`kexecdbg.session.mi_output.MiOutput` gives them."""
        kind, payload = record["type"], record["payload"]
        if kind == "log":
            self._logged.append(payload or "")
            return
        logged = "".join(self._logged)
        self._logged.clear()
        is_error = kind == "result" and record["message"] == "error"
        if logged and not is_error:  # whose message is what was logged
            self._tell(logged)
        if kind in ("console", "target") and payload:
            # The monitor ends its lines as a terminal wants them.
            self._printed.append(payload.replace("\r\n", "\n"))
            self._tell(self._printed[-1])
        elif kind == "output":
            self._tell(f"{payload}\n")
        elif kind == "result" and record["token"] == self._token + 1:
            self.is_complete = True
        elif is_error and record["token"] == self._token:
            self.problem = _message(payload, logged)


def _message(payload: Mapping[str, str], logged: str) -> str:
    raised = _RAISED_IN_PYTHON.findall(logged)
    return raised[-1] if raised else _IN_A_SCRIPT.sub("", payload.get("msg", "GDB reports an error without a message"))
