"""The training loop: AdamW, seeded data, checkpoints that a later run goes on from."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import torch

from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.shapes import Shape
from training.corpus import Corpus, build_corpus, sample_texts
from training.history import History, Record, load_history, plot
from training.model import Miniature, build, silence
from training.schedule import learning_rate, row_shape
from training.tokenizer import load_tokenizer, train_tokenizer
from training.validate import quick_losses
from training.workers import Told, Weights, Workers, mean_of

TOKENIZER_CHARS = 1_500_000
RECORD_STEPS = 10
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 0.1, 1.0
LOSS_WEIGHTS = Weights(draft=(0.3, 0.1), balance=0.01)


@dataclass(frozen=True)
class Settings:
    """What a run is made of.

    Attributes:
        seed: of weights, tokenizer and data.
        tokens: length of the run; the schedule follows it, so every number can be had again.
        minutes: length on the clock instead, pauses included; 0 for none.
        rate: peak learning rate.
        save_minutes, validate_minutes: time between two checkpoints, and between two short validations.
        workers: processes, one thread each; the rows of a step depend on their number.
    """

    seed: int = 4
    tokens: int = 20_000_000
    minutes: float = 0.0
    rate: float = 2e-3
    save_minutes: float = 3.0
    validate_minutes: float = 6.0
    workers: int = 2


@dataclass
class State:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    progress: float = 0.0


@dataclass
class Run:
    """A run in its folder."""

    out: Path
    settings: Settings
    corpus: Corpus
    model: Miniature
    optimizer: torch.optim.AdamW
    state: State
    history: History

    def save(self) -> None:
        """Write checkpoint, history and plot, each whole or not at all."""
        kept = {
            "shape": self.model.shape.name,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": asdict(self.state),
        }
        with write_atomic(self.out / "checkpoint.pt") as part:
            torch.save(kept, part)
        self.history.save(self.out / "history.json")
        plot(self.history, self.out / "loss.png")


def start(out: Path, shape: Shape, settings: Settings, resume: bool) -> Run:
    """Open a run in the folder `out`: a new one, or with `resume` the one whose checkpoint lies there.

    Raises:
        BadInput: there is a checkpoint and `resume` was not asked for, or there is none to go on from.
    """
    checkpoint = out / "checkpoint.pt"
    if resume and not checkpoint.is_file():
        raise BadInput(f"there is no checkpoint in {out} to resume; leave --resume out to start a run")
    if not resume and checkpoint.is_file():
        raise BadInput(f"{out} holds a checkpoint; add --resume to go on from it, or name another --out")
    out.mkdir(parents=True, exist_ok=True)
    named = out / "tokenizer.json"
    if not named.is_file():
        train_tokenizer(sample_texts(settings.seed, TOKENIZER_CHARS), shape.n_vocab).save(named)
    tokenizer = load_tokenizer(named)
    model = build(shape, settings.seed)
    silence(model, tokenizer.muted)
    run = Run(
        out,
        settings,
        build_corpus(tokenizer, settings.seed),
        model,
        _optimizer(model, settings.rate),
        State(),
        History(asdict(settings)),
    )
    if resume:
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(kept["model"])
        run.optimizer.load_state_dict(kept["optimizer"])
        run.state = State(**kept["state"])
        run.history = load_history(out / "history.json")
    return run


def load_model(out: Path, shape: Shape) -> Miniature:
    """The model of the checkpoint in `out`, ready for evaluation.

    Raises:
        BadInput: there is no checkpoint.
    """
    checkpoint = out / "checkpoint.pt"
    if not checkpoint.is_file():
        raise BadInput(f"there is no checkpoint in {out}; train one with `python -m training --out {out}`")
    model = build(shape, 0)
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
    model.eval()
    return model


def train(run: Run, told: Callable[[str], None]) -> bool:
    """Train until the run's minutes or tokens are spent, or SIGTERM or SIGINT asks to stop.

    A stopped process (SIGSTOP) goes on where it was; with a run by the clock the pause counts.

    Returns:
        True if the run is complete, False if it was asked to stop. Either way the checkpoint is written.

    Raises:
        CheckFailed: the loss is no number any more.
    """
    settings, state = run.settings, run.state
    last_saved = last_validated = time.monotonic()
    window: list[tuple[Told, float]] = []
    workers = Workers(run.model, run.corpus, LOSS_WEIGHTS, settings.workers)
    with contextlib.closing(workers), _asked_to_stop() as asked:
        while state.progress < 1.0 and not asked():
            began = time.monotonic()
            n_tokens, losses, norm = _step(run, workers)
            window.append((losses, norm))
            took = time.monotonic() - began
            state.step += 1
            state.tokens += n_tokens
            state.seconds += took
            if settings.minutes:
                state.progress += took / (60 * settings.minutes)
            else:
                state.progress = state.tokens / settings.tokens
            if len(window) == RECORD_STEPS:
                _record(run, window, told)
                window = []
            now = time.monotonic()
            if now - last_validated > 60 * settings.validate_minutes:
                run.history.validations.append(
                    {"step": state.step, "tokens": state.tokens, "loss": quick_losses(run.model, run.corpus)}
                )
                told(f"validation: {run.history.validations[-1]['loss']}")
                if settings.minutes:
                    state.progress += (time.monotonic() - now) / (60 * settings.minutes)
                last_validated = time.monotonic()
            if now - last_saved > 60 * settings.save_minutes:
                run.save()
                last_saved = time.monotonic()
    run.save()
    return state.progress >= 1.0


def _step(run: Run, workers: Workers) -> tuple[int, Told, float]:
    """One step of the optimizer; returns the tokens seen, the losses and the norm of the gradient."""
    state, settings = run.state, run.settings
    shape = row_shape(state.progress, settings.seed, state.step, workers.count)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(settings.rate, state.progress, state.step)
    told = workers.backward(state.step, shape)
    norm = float(torch.nn.utils.clip_grad_norm_(run.model.parameters(), CLIP))
    if not math.isfinite(norm):
        raise CheckFailed(
            f"the gradient of step {state.step} is no number; go on from the checkpoint with a lower --rate"
        )
    run.optimizer.step()
    return workers.count * shape.n_rows * shape.n_tokens, told, norm


def _record(run: Run, window: list[tuple[Told, float]], told: Callable[[str], None]) -> None:
    state = run.state
    mean = mean_of([losses for losses, _ in window])
    record = Record(
        step=state.step,
        tokens=state.tokens,
        seconds=round(state.seconds, 1),
        progress=round(state.progress, 5),
        rate=run.optimizer.param_groups[0]["lr"],
        trunk=mean.trunk,
        draft=mean.draft,
        balance=mean.balance,
        norm=sum(norm for _, norm in window) / len(window),
    )
    before = run.history.records[-1] if run.history.records else None
    run.history.records.append(record)
    d_tokens = record.tokens - (before.tokens if before else 0)
    d_seconds = record.seconds - (before.seconds if before else 0.0)
    left = state.seconds / max(state.progress, 1e-9) * (1 - state.progress)
    told(
        f"step {record.step}  {record.tokens / 1e6:.2f} M tokens  {100 * record.progress:.1f} %  "
        f"loss {record.trunk:.3f}  draft {' '.join(f'{draft:.3f}' for draft in record.draft)}  "
        f"balance {record.balance:.2f}  norm {record.norm:.2f}  rate {record.rate:.2e}  "
        f"{d_tokens / max(d_seconds, 1e-9):.0f} tokens/s  {left / 60:.0f} min left"
    )


def _optimizer(model: Miniature, rate: float) -> torch.optim.AdamW:
    """AdamW; vectors (norms, decays, biases) are not drawn towards zero."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM and SIGINT instead of dying of them, so that a step and its checkpoint are finished."""
    asked = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    kept = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
