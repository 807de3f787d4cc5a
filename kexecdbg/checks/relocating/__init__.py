"""Drives a kexec relocation to its end: finds the copied code, stops at its landmarks, compares every page."""
