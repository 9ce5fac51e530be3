"""One training run, from rows to an artifact, shared by every method that changes the weights.

A method (`sft`, `npo`, `rmu`, ...) chooses the rows and the loss. The rest is here: the model is
trained and then restored bit for bit, and the learned weights become the tensors of an artifact.
`rows` has the rows, `batches` the tensors, `passes` the forward passes, `weights` the trained
parameters, `trainer` the Trainer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safesight.errors import ModelError, TrainingError
from safesight.extras import need
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import check_untouched, provenance
from safesight.generation.composition import protection
from safesight.training.batches import Ahead, Collator, Draws
from safesight.training.checkpoints import last_checkpoint
from safesight.training.choice import Choice, projector_parameters, reached
from safesight.training.passes import Objective, Passes
from safesight.training.place import run_folder
from safesight.training.plan import Fitting, Method, TuningRun
from safesight.training.weights import Installed, installed

__all__ = ["Fitting", "Method", "TuningRun", "train"]


def train(fitting: Fitting, choice: Choice, method: Method) -> Artifact:
    """Train, and restore the model.

    Raises:
        ModelError: another defense changes the model's weights, or it has an adapter.
        TrainingError: the run diverged or changed nothing, or the folder holds a different run.
        StorageError: the run's folder is in use or cannot be written.
    """
    vlm, config = fitting.vlm, fitting.config
    handle = protection(vlm.model)
    if handle is not None and handle.changes_weights:
        raise ModelError(
            f"{handle.changes_weights} changes the weights of this model. Call unprotect(model) "
            f"before fitting {fitting.name}."
        )
    if vlm.dtype == torch.float16:
        raise ModelError(
            f"{vlm.name!r} is loaded in float16, in which small gradients vanish. Load it in "
            f"bfloat16 or float32 to fit {fitting.name}."
        )
    check_untouched(vlm, onward=True)
    need("accelerate", "train", "Training")
    begin = time.monotonic()
    with (
        run_folder(fitting) as folder,
        _own_rng(fitting.seed),
        installed(vlm, choice, training=True) as result,
    ):
        passes = Passes(vlm, result)
        collator = Collator(vlm, queries=method.queries)
        for rows in method.sources.values():
            collator.check(rows)
        if method.prepare is not None:
            with passes.reference(), passes.autocast():
                method.prepare(passes, collator)
        with Ahead(collator) as ahead:
            log = _fit(fitting, method, passes, ahead, folder)
        tensors = _finite(result)
    card = provenance(vlm, fitting.data, fitting.seed, onward=True)
    card["versions"] = {**card["versions"], "peft": version("peft")}
    card["training"] = {
        "forget": sum(row.set == "forget" for row in fitting.data.tuning),
        "retain": sum(row.set == "retain" for row in fitting.data.tuning),
        "reached": round(reached(vlm, choice, config.layers), 4),
        "seconds": round(time.monotonic() - begin, 1),
        "first": log[0] if log else None,  # a log that was removed is no reason to fail
        "last": log[-1] if log else None,
    }
    extra = dict(method.tensors or {})
    return Artifact(
        fitting.name,
        config.model_dump(mode="json"),
        {**choice.to_json(), **passes.facts, "extra": sorted(extra)},
        {**tensors, **extra},
        card,
    )


def _fit(
    fitting: Fitting, method: Method, passes: Passes, collator: Ahead, folder: Path
) -> list[dict[str, float]]:
    """Run the Trainer; returns the log."""
    from safesight.training.trainer import (
        TuningLog,
        TuningTrainer,
        arguments_of,
    )

    arguments = arguments_of(fitting, folder, len(next(iter(method.sources.values()))))
    if arguments.world_size > 1:
        torch.distributed.barrier()  # wait until the first process has prepared the folder
    resume = last_checkpoint(folder) if fitting.run and fitting.run.resume else None
    log = TuningLog(
        folder / "log.jsonl",
        until=0 if resume is None else int(resume.name.rpartition("-")[2]),
        write=arguments.process_index == 0,
    )
    batch = arguments.train_batch_size * arguments.gradient_accumulation_steps
    length = arguments.max_steps * batch * arguments.world_size
    trainer = TuningTrainer(
        Objective(passes, method.terms),
        arguments,
        collator,
        train_dataset=Draws(method.sources, length=length, seed=fitting.seed),
        passes=passes,
        terms=len(method.terms),
        log=log,
    )
    trainer.stop = method.stop
    if fitting.config.projector and fitting.config.projector_learning_rate is not None:
        names = projector_parameters(fitting.vlm)
        trainer.rates = dict.fromkeys(names, fitting.config.projector_learning_rate)
    if resume is not None and method.stop is not None and method.stop(log.entries):
        trainer._load_from_checkpoint(str(resume))  # the run had ended there
    else:
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return log.entries


def _finite(result: Installed) -> dict[str, Tensor]:
    """Copies of the trained weights, on the CPU.

    Raises:
        TrainingError: a weight is not finite, or none has changed.
    """
    tensors = {name: value.cpu() for name, value in result.tensors().items()}
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise TrainingError(
            "The run diverged: a weight is not a finite number. Use a smaller learning_rate."
        )
    if not result.changed:
        raise TrainingError(
            "The run changed no weight, because its steps were too small. Use a larger "
            "learning_rate."
        )
    return tensors


@contextmanager
def _own_rng(seed: int) -> Iterator[None]:
    """Inside, all random generators start from the seed; afterwards they are restored."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
