"""The figures of the second paper."""
