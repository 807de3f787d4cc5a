"""A stopped machine: register values and physical memory, wherever they come from."""
