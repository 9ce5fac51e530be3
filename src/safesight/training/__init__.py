"""Training runs of the defenses that change weights.

A method chooses the rows and the loss; `plan` holds that choice and `run` does the rest. Read
next: `rows`, `batches`, `passes`, `weights`, `trainer`, `export`.
"""
