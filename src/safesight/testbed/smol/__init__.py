"""A second target, `testbed-smol`: a pretrained language model behind an eye and a projector.

The language model is SmolLM2-135M-Instruct, read from an installed package; the eye and the
projector are trained by `python -m safesight.testbed.smol.train`. Nothing of the language model is
shipped here, so the folder of the model is built on first use, by `build`.
"""
