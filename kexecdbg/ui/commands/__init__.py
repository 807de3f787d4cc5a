"""One module per shell command: ``SUMMARY``, ``add_arguments(parser)`` and ``run(arguments) -> exit status``.

The module ``gdb_init`` is the command ``gdbinit``; otherwise command and module have the same name.
"""
