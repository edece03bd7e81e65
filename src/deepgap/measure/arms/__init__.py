"""The arms of a run, one file each, and the parts that they share.

An arm is a function that times calls with a `Timer` and returns spans; `runs` puts them in order. Nothing is
allocated, generated or polled between the two ends of a timed span, and Python's garbage collector is off.
"""
