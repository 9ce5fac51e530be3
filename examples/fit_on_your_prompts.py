"""Fit SASA on your own labelled prompts, save the artifact, and print its calibration.

    python examples/fit_on_your_prompts.py [FOLDER]

Replace the two pools with your own samples: harmful prompts, their benign twins, and benign
prompts that are not used for the fit.
"""

from __future__ import annotations

import sys

from safesight import SASA, VLM, FitData, load_benchmark


def main(folder: str = "runs/artifacts/sasa") -> None:
    """Fit on 5% of a pool; the model is not changed."""
    vlm = VLM.load("testbed")
    harmful = load_benchmark("image_harm")(600, split="fit")
    benign = load_benchmark("over_refusal")(600, split="fit")
    held_out = load_benchmark("over_refusal")(120, split="calibration")
    data = FitData.from_pool([*harmful, *benign], held_out, share=0.05)

    artifact = SASA().fit(vlm, data, progress=False)
    print(f"fitted on {len(data.harmful)} harmful and {len(data.benign)} benign prompts")
    print(f"layers and threshold: {dict(artifact.fitted)}")
    print(f"calibration: {artifact.card.get('calibration')}")
    print(f"saved to {artifact.save(folder)}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
