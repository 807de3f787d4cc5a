"""Recording a running machine: by stepping it through its gdbstub, or from QEMU's own log."""
