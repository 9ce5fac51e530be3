"""The defenses inside vLLM, as a plugin of an unmodified engine.

`plugin` is what vLLM finds. With "safesight" in an engine's `additional_config`, `engine_check`
refuses what cannot be defended before a process starts, and `defended` puts the defenses into the
model. `guard` runs them, whichever of vLLM's two model runners calls (`runner_v1`, `runner_v2`).
Without it, nothing of vLLM is changed.
"""
