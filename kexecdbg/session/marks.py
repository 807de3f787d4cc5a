"""What the session and the GDB commands agree on."""

OUTPUT_MARK = "\x1e"
"""ASCII record separator: a command of ours prints it before its output when ``kexecdbg-mark-output`` is on."""
