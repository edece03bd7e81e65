"""The tables of the second paper."""
