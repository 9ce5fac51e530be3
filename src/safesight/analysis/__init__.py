"""Looking inside: what a model and its defenses see, as numbers and pictures.

Read `risk_map` for where in a picture RAI finds risk, `rai_controls` for whether it is
the words that matter.
"""
