"""One protected call of `generate`, from the prompt to the answer.

Knows which parts act and in what order, not what they compute. Read next: `protected_model` (the
order), `parts` (what a defense contributes), `detectors` (who is refused).
"""
