"""Defenses inside vLLM. These tests need vLLM, which has an environment of its own."""
