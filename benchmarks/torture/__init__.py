"""Random trials that try to break safesight; see docs/reference/reliability.md.

    python -m benchmarks.torture [KIND ...] [--n N] [--seed SEED] [--json FILE]

Each kind is a module with `run(n, seed, folder)`. It makes `n` trials from a seed, works in the
folder, and returns how many it `tried`, how many came out `right`, how many were `refused` with a
sentence, and the `faults`, one sentence each.
"""
