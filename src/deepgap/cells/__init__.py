"""The contract between measuring and reading: the files of cells, and what they cannot say."""
