"""The data a defense is fitted on, and the artifact a fit produces.

Read next: `data` (the samples), `artifact` (the numbers), `stored` (reading them back),
`provenance` (their origin).
"""
