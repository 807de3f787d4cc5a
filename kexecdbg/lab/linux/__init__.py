"""A real Linux kernel as a guest, Debian's or the user's own: booted, and followed by a second kernel."""
