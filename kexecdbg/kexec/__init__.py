"""What kexec leaves in memory for the relocation code: the page list and the argument block."""
