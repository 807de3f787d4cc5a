"""The AArch64 architecture as the Arm ARM describes it: pure functions, no I/O, nothing is printed here."""
