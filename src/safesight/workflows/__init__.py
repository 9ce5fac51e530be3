"""Whole jobs, from names to results: what the command line, the docs and the benchmarks share.

Nothing here parses an option or prints a result.
"""
