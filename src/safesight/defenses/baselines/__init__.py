"""Baselines: the simplest published defenses, which every other must beat."""
