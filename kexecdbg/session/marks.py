"""What the session and the GDB commands agree on."""

OUTPUT_MARK = "\x1e"
"""ASCII record separator: with ``kexecdbg-mark-output`` on, a command prints it before its JSON and its text."""
