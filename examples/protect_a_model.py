"""Defend a plain `transformers` model, query it through a pipeline, and remove the defense.

    python examples/protect_a_model.py [MODEL] [ARTIFACT]

Without arguments: the bundled model and its bundled artifact.
"""

from __future__ import annotations

import sys

from safesight import VLM, load_benchmark, protect


def main(model: str = "testbed", artifact: str | None = None) -> None:
    """Print one answer undefended, defended, and undefended again."""
    vlm = VLM.load(model)
    sample = load_benchmark("image_harm")(1)[0]
    inputs = vlm.encode([sample.messages()])
    length = inputs["input_ids"].shape[1]

    def answer() -> str:
        # Plain transformers from here on: every call of `generate` is defended.
        output = vlm.model.generate(**inputs, max_new_tokens=48, do_sample=False)
        return vlm.decode(output, length)[0]

    print(f"question:   {sample.question} (the picture shows: {sample.target})")
    print(f"undefended: {answer()}")
    with protect(vlm, "sasa", artifact):
        print(f"sasa:       {answer()}")
    print(f"removed:    {answer()}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
