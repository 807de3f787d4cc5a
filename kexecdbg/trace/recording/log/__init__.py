"""Recording from QEMU's log: what the log says of each instruction, and what follows from decoding it."""
