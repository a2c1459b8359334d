"""One step's rows spread over processes of one thread each, which share the weights.

Small matrices gain little from a second thread inside an operation; two processes with half of the rows each
gain nearly all of it, and wait for each other once a step.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, multiprocessing

from llamacpp_tools.errors import LltError
from llamacpp_tools.models.shapes import Shape
from training.corpus import Corpus
from training.model import Miniature, build
from training.schedule import RowShape


@dataclass(frozen=True)
class Weights:
    """How the losses are added up.

    Attributes:
        draft: of the MTP block at lookahead 1, 2, ... beside the trunk's 1.
        balance: of the routers.
    """

    draft: tuple[float, ...]
    balance: float


@dataclass(frozen=True)
class Told:
    """Losses of some rows as plain numbers, as `model.Losses`."""

    trunk: float
    draft: tuple[float, ...]
    balance: float


class WorkerLost(LltError):
    """A worker process ended."""


class Workers:
    """This process and `count - 1` others, all computing gradients on the same weights.

    The weights of `model` move into shared memory; its gradients lie in one flat buffer, so that those of the
    others are added with one operation.
    """

    def __init__(self, model: Miniature, corpus: Corpus, weights: Weights, count: int) -> None:
        torch.set_num_threads(1)
        self._model, self._corpus, self._weights = model, corpus, weights
        shared = flat_weights(model).share_memory_()
        use_weights(model, shared)
        self._gradient = use_gradient(model, torch.zeros_like(shared))
        self._others: list[tuple[Any, Connection, Tensor]] = []
        context = multiprocessing.get_context("spawn")
        for at in range(1, count):
            ours, theirs = context.Pipe()
            gradient = torch.zeros_like(shared).share_memory_()
            process = context.Process(
                target=_serve, args=(theirs, model.shape, corpus, weights, at, shared, gradient), daemon=True
            )
            process.start()
            theirs.close()
            self._others.append((process, ours, gradient))

    @property
    def count(self) -> int:
        """Processes, this one included."""
        return 1 + len(self._others)

    def backward(self, step: int, shape: RowShape) -> Told:
        """Leave the mean gradient of a step in the model's parameters; returns the mean losses.

        Every process takes `shape.n_rows` rows of its own.

        Raises:
            WorkerLost: another process ended.
        """
        try:
            for _, pipe, _ in self._others:
                pipe.send((step, shape))
            told = [_backward(self._model, self._corpus, self._weights, 0, step, shape, self._gradient)]
            told += [pipe.recv() for _, pipe, _ in self._others]
        except (EOFError, OSError) as error:
            raise WorkerLost("a worker process of the training ended; go on with --resume") from error
        for _, _, gradient in self._others:
            self._gradient.add_(gradient)
        self._gradient.div_(self.count)
        return mean_of(told)

    def close(self) -> None:
        """End the other processes."""
        for process, pipe, _ in self._others:
            pipe.close()
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
        self._others = []


def mean_of(told: Sequence[Told]) -> Told:
    """The mean of losses."""
    n = len(told)
    drafts = zip(*(one.draft for one in told), strict=True)
    return Told(
        sum(one.trunk for one in told) / n,
        tuple(sum(draft) / n for draft in drafts),
        sum(one.balance for one in told) / n,
    )


def flat_weights(model: Miniature) -> Tensor:
    """All parameters in one row, in their order."""
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def use_weights(model: Miniature, flat: Tensor) -> None:
    """Make the parameters views of `flat`."""
    at = 0
    for weight in model.parameters():
        weight.data = flat[at : at + weight.numel()].view_as(weight)
        at += weight.numel()


def use_gradient(model: Miniature, flat: Tensor) -> Tensor:
    """Make the parameters' gradients views of `flat`; returns it."""
    at = 0
    for weight in model.parameters():
        weight.grad = flat[at : at + weight.numel()].view_as(weight)
        at += weight.numel()
    return flat


def _backward(
    model: Miniature, corpus: Corpus, weights: Weights, at: int, step: int, shape: RowShape, gradient: Tensor
) -> Told:
    """Gradient of this process's rows, into `gradient`."""
    rows = corpus.rows("train", step, shape.n_rows, shape.n_tokens, at * shape.n_rows, shape.drills)
    model.train()
    losses = model.losses(torch.from_numpy(rows), len(weights.draft))
    total = losses.trunk + weights.balance * losses.balance
    for weight, draft in zip(weights.draft, losses.draft, strict=True):
        total = total + weight * draft
    gradient.zero_()
    torch.autograd.backward(total)
    return Told(losses.trunk.item(), tuple(draft.item() for draft in losses.draft), losses.balance.item())


def _serve(
    pipe: Connection,
    shape: Shape,
    corpus: Corpus,
    weights: Weights,
    at: int,
    shared: Tensor,
    gradient: Tensor,
) -> None:
    """A worker process: compute what is asked until the pipe closes."""
    # The first process decides when to stop.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    model = build(shape, 0)
    use_weights(model, shared)
    use_gradient(model, gradient)
    while True:
        try:
            step, rows = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_backward(model, corpus, weights, at, step, rows, gradient))
