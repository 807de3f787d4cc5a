"""The lab: machines built on purpose, right or wrong, run in QEMU, and what was predicted against what was observed."""
