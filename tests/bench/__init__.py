"""Benchmarks, run by name: ``python -m tests.bench NAME...``. They print ratios measured in one run; none is a test."""
