"""kexecdbg: says why an arm64 machine freezes when its MMU is switched on.

The rooms, from the bottom up (a room imports only from those before it):
``errors``, ``arm64``, ``machine``, ``qemu`` and ``kexec``, ``checks``, ``lab``, ``trace``, ``session``, ``ui``.
"""

__version__ = "0.1.0"
