"""What a defense is fitted on, and what a fit leaves behind.

Read next: `data` (the samples), `artifact` (the numbers), `stored` (reading them back),
`provenance` (where they come from).
"""
