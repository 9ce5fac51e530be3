"""Sources of samples, one file each, with license, revision and a check for completeness.

`vlguard` reads a public data set; `attacked` puts any registered benchmark under attack. The
questions for the bundled model come from its own world, in `testbed`.
"""

from safesight.benchmarks.attacked import Attacked, describe_benchmark, load_benchmark

__all__ = ["Attacked", "describe_benchmark", "load_benchmark"]
