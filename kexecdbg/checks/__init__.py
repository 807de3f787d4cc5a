"""The catalogue: what can go wrong when an MMU is switched on, decided before the instruction that does it."""
