"""What a GDB of ours says in GDB/MI, record by record, as pygdbmi parses it.

GDB writes most of it character by character and reports every stop with all its circumstances. Here a record is parsed
when its line is complete, and of what GDB reports by itself only the name is taken: nobody asks for more.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from subprocess import Popen
from typing import Any

from pygdbmi.gdbmiparser import parse_response, response_is_finished

_AT_ONCE = 1 << 16


class MiOutput:
    """The output of the GDB ``process``: GDB/MI on its standard output, and what it prints on its standard error.

    Attributes:
        descriptor: of its standard output, to wait for.
    """

    def __init__(self, process: Popen[bytes]) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.descriptor = process.stdout.fileno()
        self._incomplete = {self.descriptor: b"", process.stderr.fileno(): b""}
        self._events = select.poll()
        for descriptor in self._incomplete:
            os.set_blocking(descriptor, False)
            self._events.register(descriptor, select.POLLIN)

    def records(self, seconds: float) -> list[dict[str, Any]]:
        """The next records, as :func:`pygdbmi.gdbmiparser.parse_response` gives them; waits ``seconds`` for the first.

        None also when GDB has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            ready = self._events.poll(max(0.0, deadline - time.monotonic()) * 1000)
            found = [record for descriptor, _ in ready for record in self._read(descriptor)]
            if found or not ready or all(event & select.POLLHUP for _, event in ready):
                return found

    def _read(self, descriptor: int) -> Iterator[dict[str, Any]]:
        text = self._incomplete[descriptor] + os.read(descriptor, _AT_ONCE)
        *lines, self._incomplete[descriptor] = text.split(b"\n")
        for line in lines:
            if line[:1] in (b"*", b"="):
                name = line[1:].partition(b",")[0].decode(errors="replace")
                yield {"type": "notify", "message": name, "payload": None, "token": None}
            elif not response_is_finished(shown := line.decode(errors="replace")):
                yield parse_response(shown)
