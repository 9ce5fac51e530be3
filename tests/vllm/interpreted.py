"""Runs vLLM's Model Runner V2, which GPUs get, on a CPU.

V2 has a few small kernels in triton, which has no compiler for CPUs. Triton's interpreter runs them
on CPU tensors, slowly. vLLM asks whether a backend is active before it imports them, so one that
says yes has to be there first.
"""

from __future__ import annotations

import os

__all__ = ["prepare"]


class _Always:
    @staticmethod
    def is_active() -> bool:
        return True


def prepare() -> None:
    """Set up this process; to be called before vLLM is imported."""
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"
    import triton.backends

    triton.backends.backends["cpu"] = triton.backends.Backend(compiler=None, driver=_Always)
