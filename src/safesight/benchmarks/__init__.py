"""Sources of samples, one file each, with license, revision and a check for completeness.

`published` makes a task of a public benchmark, from what its own file says of it (`spec`) and how
that file reads a folder (`folder`). `attacked` puts any registered benchmark under attack. The
questions for the bundled model come from its own world, in `testbed`.
"""

from safesight.benchmarks.attacked import (
    Attacked,
    describe_benchmark,
    draw_samples,
    load_benchmark,
    published_as,
    under_attack,
)
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec

__all__ = [
    "Attacked",
    "Benchmark",
    "Spec",
    "describe_benchmark",
    "draw_samples",
    "load_benchmark",
    "published_as",
    "under_attack",
]
