"""Runs beside one QEMU and cleans up after it, whatever happens to the program that started it.

A process of its own (started by :mod:`kexecdbg.qemu.process`), because a killed program cannot clean up. It starts
QEMU, waits for the end of its standard input (the starter closed it, or died) or for a signal, then ends QEMU and
removes the private directory. Should it be killed itself, the kernel ends QEMU (PR_SET_PDEATHSIG) and the starter
removes the directory. Should both be killed, nobody holds the lock on the directory any more, and the next start
removes it (:mod:`kexecdbg.qemu.private_directory`).

It has to start fast: no import of the package, and little of the standard library: ``subprocess``, ``selectors``,
``shutil`` and ``signal`` would double the time.

Usage: ``supervisor.py DIRECTORY LOCK FD,FD,... PROGRAM ARGUMENT...``. The program inherits the descriptors FD, not
LOCK, which holds the lock on the directory. Prints ``pid N`` once QEMU runs, ``exit N`` when it has ended.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # what "signal" makes enums of
import os
import select
import sys

_PR_SET_PDEATHSIG = 1
_MILLISECONDS_TO_END = 3000
_CANNOT_RUN = 127
"""Exit status of a program that cannot be run, as shells have it."""


def _say(text: str) -> None:
    try:
        os.write(1, f"{text}\n".encode())
    except BrokenPipeError:
        return  # the starter is gone; the end of standard input says so as well


def _start(command: list[str], log: int) -> int | None:
    """Start ``command`` with its output in the file ``log``: its process id, or ``None`` when it cannot be run."""
    supervisor = os.getpid()
    # The descriptor goes with a successful exec.
    problem_read, problem_write = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            _become(command, log, supervisor)
        except OSError as error:
            os.write(problem_write, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(_CANNOT_RUN)
    os.close(problem_write)
    problem = os.read(problem_read, 4096)
    os.close(problem_read)
    if not problem:
        return process
    os.write(log, problem)
    os.waitpid(process, 0)
    return None


def _become(command: list[str], log: int, supervisor: int) -> None:
    """Run ``command`` in this process, which ends with the process ``supervisor``."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before that
        os._exit(_CANNOT_RUN)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.execv(command[0], command)


def _end(process: int, process_fd: int) -> None:
    ended = select.poll()
    ended.register(process_fd, select.POLLIN)
    os.kill(process, signal.SIGTERM)
    if not ended.poll(_MILLISECONDS_TO_END):
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def _remove(directory: str) -> None:
    for folder, _, names in os.walk(directory, topdown=False):
        try:
            for name in names:
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        except OSError:
            pass  # the starter removes it too, if it is still there


def main(directory: str, command: list[str], keep_fds: list[int]) -> int:
    """Run ``command`` until it and the starter have ended; remove ``directory``."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, lambda *_: None)
    try:
        try:
            log = os.open(os.path.join(directory, "qemu.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except FileNotFoundError:  # the starter was interrupted meanwhile, and has removed it
            return _CANNOT_RUN
        process = _start(command, log)
        if process is None:
            _say(f"exit {_CANNOT_RUN}")
            sys.stdin.buffer.read()
            return _CANNOT_RUN
        for number in keep_fds:
            os.close(number)
        _say(f"pid {process}")
        process_fd = os.pidfd_open(process)
        events = select.poll()
        for number in (0, wake_read, process_fd):
            events.register(number, select.POLLIN)
        runs = True
        while True:
            ready = {number for number, _ in events.poll()}
            if process_fd in ready:
                _say(f"exit {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}")
                events.unregister(process_fd)
                runs = False
            if ready & {0, wake_read}:
                break
        if runs:
            _end(process, process_fd)
        return 0
    finally:
        _remove(directory)


if __name__ == "__main__":
    lock, fds = int(sys.argv[2]), [int(number) for number in sys.argv[3].split(",") if number]
    os.set_inheritable(lock, False)
    sys.exit(main(sys.argv[1], sys.argv[4:], fds))
