"""The kinds of text by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llamacpp_tools.workloads import (
    analysis,
    code,
    extraction,
    factual,
    instruction,
    maintenance_log,
    narrative,
    thinking,
)

# The seed of every text that is measured, so that two sweeps of one workload read the same words. It is
# the date of the upstream pin, and of the published figures that the workloads follow.
MEASURED_SEED = 20260629


@dataclass(frozen=True)
class Workload:
    """One kind of text.

    Attributes:
        name: as in a sweep file.
        predictable: whether what follows is easy to guess (a log, code, records).
        chunks: never-ending pieces of context for a seed; joined they are the text.
        task: what stands whole at the prompt's end; empty where the model just goes on.
    """

    name: str
    predictable: bool
    chunks: Callable[[int], Iterator[str]]
    task: str


_ALL = (
    Workload("maintenance_log", True, maintenance_log.chunks, maintenance_log.TASK),
    Workload("analysis", False, analysis.chunks, analysis.TASK),
    Workload("narrative", False, narrative.chunks, narrative.TASK),
    Workload("code", True, code.chunks, code.TASK),
    Workload("extraction", True, extraction.chunks, extraction.TASK),
    Workload("factual", False, factual.chunks, factual.TASK),
    Workload("thinking", False, thinking.chunks, thinking.TASK),
    Workload("instruction", False, instruction.chunks, instruction.TASK),
)
_BY_NAME = {workload.name: workload for workload in _ALL}


def names() -> tuple[str, ...]:
    """The names of all kinds."""
    return tuple(_BY_NAME)


def get(name: str) -> Workload:
    """The kind called `name`.

    Raises:
        KeyError: there is none.
    """
    return _BY_NAME[name]


def context_text(name: str, n_chars: int, seed: int) -> str:
    """At least `n_chars` characters of a kind's context, without its task; longer is only appended to."""
    pieces: list[str] = []
    length = 0
    for piece in get(name).chunks(seed):
        pieces.append(piece)
        length += len(piece)
        if length >= n_chars:
            break
    return "".join(pieces)


def prompt_text(name: str, n_chars: int, seed: int = MEASURED_SEED) -> str:
    """A prompt of about `n_chars` characters: context, then the kind's task."""
    return context_text(name, n_chars, seed) + get(name).task
