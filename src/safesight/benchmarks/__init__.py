"""Where samples come from, one file each: licence, revision, and whether they are complete.

`vlguard` reads a public data set; `attacked` puts any benchmark of the registry under attack.
What the bundled model is asked comes from its own world, in `testbed`.
"""

from safesight.benchmarks.attacked import Attacked, describe_benchmark, load_benchmark

__all__ = ["Attacked", "describe_benchmark", "load_benchmark"]
