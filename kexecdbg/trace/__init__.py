"""Recorded runs: the trace file (docs/trace-format.md), its writer and reader, and the engines that record."""
