"""One module per GDB command: parse, call, render."""
