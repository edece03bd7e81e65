"""The second study's cells, read: what a step takes, what it is worth in FLOP/s, and what is faster than what."""
