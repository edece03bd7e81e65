"""The version of the measuring method."""

METHOD_VERSION = 4
"""What measuring itself means: raised when an edit can change a measured number or a cell's contents, whatever its
runtime and source; all cells are then measured anew. Runtimes and sources have versions of their own.

`tests/unit/test_method.py` fails when code that measures changes without a decision.
"""
