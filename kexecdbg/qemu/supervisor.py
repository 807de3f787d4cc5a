"""Runs beside one QEMU and cleans up after it, whatever happens to the program that started it.

A process of its own (started by :mod:`kexecdbg.qemu.process`), because a killed program cannot clean up. It starts
QEMU, waits for the end of its standard input (the starter closed it, or died) or for a signal, then ends QEMU and
removes the private directory. Should it be killed itself, the kernel ends QEMU (PR_SET_PDEATHSIG) and the starter
removes the directory. Should both be killed, nobody holds the lock on the directory any more, and the next start
removes it (:mod:`kexecdbg.qemu.private_directory`).

Standard library only and no import of the package: it has to start fast.

Usage: ``supervisor.py DIRECTORY FD,FD,... PROGRAM ARGUMENT...``. Prints ``pid N`` once QEMU runs, ``exit N`` when it
has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_SECONDS_TO_END = 3.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _say(text: str) -> None:
    # The starter may be gone; the end of standard input says so as well.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{text}\n".encode())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(directory: str, command: list[str], keep_fds: list[int]) -> int:
    """Run ``command`` until it and the starter have ended; remove ``directory``."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, lambda *_: None)
    try:
        with open(os.path.join(directory, "qemu.log"), "wb") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=keep_fds,
                    preexec_fn=_die_with_parent,
                )
            except OSError as error:
                log.write(f"{command[0]}: {error.strerror}\n".encode())
                log.flush()
                _say("exit 127")
                sys.stdin.buffer.read()
                return 127
        for number in keep_fds:
            os.close(number)
        _say(f"pid {process.pid}")
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            process_fd = os.pidfd_open(process.pid)
            selector.register(process_fd, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if process_fd in ready:
                    _say(f"exit {process.wait()}")
                    selector.unregister(process_fd)
                if ready & {0, wake_read}:
                    break
        if process.poll() is None:
            _end(process)
        return 0
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    fds = [int(number) for number in sys.argv[2].split(",") if number]
    sys.exit(main(sys.argv[1], sys.argv[3:], fds))
