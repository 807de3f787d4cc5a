"""What registers are called, and their encodings; what is in them is declared in :mod:`kexecdbg.arm64.registers`.

>>> canonical_name("sctlr"), by_encoding(3, 4, 1, 0, 0)
('SCTLR_EL1', 'SCTLR_EL2')
"""

from kexecdbg.arm64.register_names.encodings import by_encoding, encoding_of
from kexecdbg.arm64.register_names.names import canonical_name, known_name, unknown_register

__all__ = ["by_encoding", "canonical_name", "encoding_of", "known_name", "unknown_register"]
