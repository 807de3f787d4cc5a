"""QEMU: starting it, its monitor, and reading what it prints."""
