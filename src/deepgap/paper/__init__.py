"""Figures, tables and numbers of the paper."""
