"""The `transformers.Trainer` for methods that change the weights: checkpoints, log, resume.

A checkpoint holds the trained parameters by their own names, the optimizer, the states of the
random generators and the base model's remembered values. So a resumed run gives the same result
as an uninterrupted one. A non-finite loss or weight stops the run before it reaches a checkpoint.
Nothing here knows about methods.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from safesight.errors import ArtifactError, StorageError, TrainingError
from safesight.training.checkpoints import (
    MEMORY,
    STATE,
    check_checkpoint,
    last_checkpoint,
    seal,
)
from safesight.training.passes import Passes, summed

if TYPE_CHECKING:
    from safesight.training.plan import Fitting

__all__ = ["Entry", "TuningLog", "TuningTrainer", "arguments_of"]

Entry = dict[str, float]
"""One step of the log: its number, the learning rate, the loss and its parts."""

# What torch.save says when the disk is full; the text depends on where in the file it happens.
_UNWRITTEN = re.compile("write|iostream|inline_container", re.IGNORECASE)
# What torch.load and the objects that take its result say of a file they cannot use.
_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError),
    *(pickle.UnpicklingError, struct.error),
)


def arguments_of(fitting: Fitting, folder: Path, rows: int) -> Any:
    """The Trainer's settings; an epoch has `rows` rows."""
    config, run = fitting.config, fitting.run
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=fitting.seed,
        use_cpu=fitting.vlm.device.type == "cpu",
        save_strategy="no" if run is None else "steps",
        save_total_limit=2,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=not fitting.progress,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one device per process: launch several for more
    batch = config.batch_size * config.accumulate * arguments.world_size
    arguments.max_steps = config.max_steps or max(1, math.ceil(config.epochs * rows / batch))
    # The first step of a warmup has a rate of zero, so a run of one step would learn nothing.
    warmup = math.ceil(config.warmup * arguments.max_steps)
    arguments.warmup_steps = min(warmup, arguments.max_steps - 1)
    every = run.save_every if run is not None else None
    arguments.save_steps = every or math.ceil(arguments.max_steps / 10)
    return arguments


class TuningLog:
    """`log.jsonl`: one line per step, cut back to the checkpoint when a run is resumed.

    With several processes, only the first one writes, and only its own batches.
    """

    def __init__(self, path: Path, *, until: int = 0, write: bool = True) -> None:
        self.path, self.write = path, write
        self.entries: list[Entry] = []
        if until and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            self.entries = [entry for entry in map(_entry, lines) if 0 < entry["step"] <= until]
        if write:
            path.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))

    def add(self, entry: Entry) -> None:
        """Record one step.

        Raises:
            StorageError: the file cannot be written.
        """
        self.entries.append(entry)
        if not self.write:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise StorageError(
                f"The log {self.path} could not be written ({error}). Checkpoints are kept: "
                "free some space and resume with --resume."
            ) from error


def _entry(line: str) -> Entry:
    """A line of the log; a truncated one counts as step 0."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {"step": 0}
    sound = isinstance(entry, dict) and isinstance(entry.get("step"), int)
    return cast(Entry, entry) if sound else {"step": 0}


class TuningTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """Trains the parameters of an `Installed`, and nothing else."""

    def __init__(self, *args: Any, passes: Passes, terms: int, log: TuningLog, **kw: Any):
        super().__init__(*args, **kw)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise TrainingError(
                "Weights split over devices cannot be trained here. Launch with plain data "
                "parallelism, which is accelerate's default for several devices."
            )
        self.accelerator.device_placement = False  # the model and its batches are in place
        self.passes, self.result, self.terms = passes, passes.result, terms
        self.parts: list[Entry] = []
        """Log entries of the step's batches, term by term."""
        self.remove_callback(PrinterCallback)
        self.add_callback(_Watch(self, log))

    stop: Callable[[list[Entry]], bool] | None = None
    """Whether to stop, given the log so far."""
    rates: Mapping[str, float] = MappingProxyType({})
    """Peak learning rates of parameters with their own rate, by name."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, with one parameter group per learning rate."""
        fresh = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        own = {id(self.result.parameters[name]): rate for name, rate in self.rates.items()}
        for group in list(optimizer.param_groups) if fresh else ():
            for rate in sorted({own[id(p)] for p in group["params"] if id(p) in own}):
                mine = [p for p in group["params"] if own.get(id(p)) == rate]
                group["params"] = [p for p in group["params"] if own.get(id(p)) != rate]
                optimizer.add_param_group({**group, "params": mine, "lr": rate})
        return optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """The batches of a step, prepared by a thread in the meantime; see `batches.Ahead`."""
        return [batch.result() for batch in islice(epoch_iterator, num_batches)], None

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any) -> Tensor:
        """One forward and backward pass per term; gradients accumulate.

        Several processes exchange gradients only after the last term.
        """
        losses = []
        for term in range(self.terms):
            last = term == self.terms - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, {**inputs, "term": term}, *args))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """One term of the method's loss.

        Raises:
            TrainingError: the loss is not a finite number.
        """
        parts = model(**inputs)
        self.parts.append({name: float(value.detach()) for name, value in parts.items()})
        loss = parts["loss"].to(self.args.device)
        if not bool(torch.isfinite(loss)):
            raise self._diverged("the loss is not a finite number")
        return (loss, parts) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Do nothing: `TuningLog` keeps the log, and standard output belongs to the caller."""

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """Do nothing: the model stays where its owner put it."""

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the trained parameters by their own names, without the base model."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        tensors = {name: p.detach().cpu() for name, p in self.result.parameters.items()}
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise self._diverged("a weight is not a finite number")
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        memory = folder / MEMORY.format(self.args.process_index)
        try:
            check_checkpoint(folder)
            self.result.load(load_file(folder / STATE))
            if memory.is_file():
                self.passes.memory = json.loads(memory.read_text(encoding="utf-8"))
        except (OSError, ValueError, SafetensorError, ArtifactError) as error:
            raise _unusable(folder, error) from error

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except _UNREADABLE as error:
            raise _unusable(checkpoint, error) from error

    def _load_rng_state(self, checkpoint: str | None) -> None:
        try:
            super()._load_rng_state(checkpoint)
        except _UNREADABLE as error:
            raise _unusable(checkpoint, error) from error

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as the Trainer does, but leave no partial checkpoint behind.

        Raises:
            StorageError: the folder cannot be written; earlier checkpoints are kept.
            TrainingError: a weight is not a number; earlier checkpoints are kept.
        """
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            memory = folder / MEMORY.format(self.args.process_index)
            memory.write_text(json.dumps(self.passes.memory), encoding="utf-8")
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                seal(folder)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, RuntimeError) and not _UNWRITTEN.search(str(error)):
                raise
            raise StorageError(
                f"The checkpoint {folder} could not be written ({error}). The previous one is "
                "kept: free some space and resume with --resume."
            ) from error
        except TrainingError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _diverged(self, what: str) -> TrainingError:
        kept = last_checkpoint(Path(self.args.output_dir))
        where = f"The last good checkpoint is {kept}." if kept else "There is no checkpoint yet."
        return TrainingError(
            f"The run diverged in step {self.state.global_step + 1}: {what}. {where} "
            "Start over with a smaller learning_rate or fewer steps."
        )


def _unusable(folder: Path | str | None, error: Exception) -> TrainingError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return TrainingError(
        f"The checkpoint {folder} cannot be resumed ({said[0][:300]}). "
        "Remove it to resume from the previous one, or remove the run folder."
    )


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Writes the log after every step, and stops the run when the method says so."""

    def __init__(self, trainer: TuningTrainer, log: TuningLog) -> None:
        self.trainer, self.steps, self.rate = trainer, log, 0.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rate = float(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parts, self.trainer.parts = self.trainer.parts, []
        terms = self.trainer.terms
        batches = [summed(parts[n : n + terms]) for n in range(0, len(parts), terms)]
        seen: dict[str, list[float]] = {}
        for name, value in (part for each in batches for part in each.items()):
            seen.setdefault(name, []).append(value)  # not every batch has every part
        means = {name: sum(values) / len(values) for name, values in seen.items()}
        entry: Entry = {"step": state.global_step, "learning_rate": self.rate, **means}
        self.steps.add(entry)
        if self.trainer.stop is not None and self._enough(args):
            control.should_training_stop = True
            if args.save_strategy != "no":
                control.should_save = True

    def _enough(self, args: Any) -> bool:
        """The first process's decision, so that all of them stop at the same step."""
        assert self.trainer.stop is not None
        found = torch.tensor(self.trainer.stop(self.steps.entries), device=args.device)
        if args.world_size > 1:
            torch.distributed.broadcast(found, src=0)
        return bool(found)
