"""Training runs of the defenses that change weights.

A method says which rows are drawn and what the loss is; `plan` holds what it says and `run` does
the rest. Read next: `rows`, `batches`, `passes`, `weights`, `trainer`, `export`.
"""
