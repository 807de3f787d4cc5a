"""What the session and the GDB commands agree on."""

OUTPUT_MARK = "\x1e"
"""ASCII record separator: with ``kexecdbg-mark-output`` on, a command prints it before its JSON and its text."""

_PREFIXES = ("kexec-", "walk-")


def is_ours(line: str) -> bool:
    """Whether a line is one of the kexecdbg commands in GDB."""
    return line.lstrip().startswith(_PREFIXES)
