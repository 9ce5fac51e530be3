"""Baselines: the simplest published defenses, which every other defense must beat."""
