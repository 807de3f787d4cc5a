"""After the fact: where a stopped CPU is, what its syndrome still says, and which switch it comes from."""
