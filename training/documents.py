"""One document of a kind: context from the workloads, the kind's task, and what may follow it.

Seeds are apart: those of training and of validation lie in ranges of their own, and the seed of the measured
texts lies in neither.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llamacpp_tools.workloads import recall
from llamacpp_tools.workloads.extraction import orders
from llamacpp_tools.workloads.registry import MEASURED_SEED, context_text, get, names
from training.answers import essay, functions, plan, questions, thoughts
from training.drills import drill

Split = Literal["train", "validation"]
_FIRST_SEED = {"train": 1_000_000_000, "validation": 2_000_000_000}
_N_SEEDS = 1_000_000_000
if any(first <= MEASURED_SEED < first + _N_SEEDS for first in _FIRST_SEED.values()):
    raise RuntimeError("the seed of the measured texts lies among those of training")

RECALL, DRILL = "recall", "drill"
# Those that are validated on; a drill is only trained on.
KINDS = (*names(), RECALL)
# Logs begin at any of this many rounds (half an hour each), so that every day and hour is seen.
_LOG_ROUNDS = 400
_FILLERS = ("narrative", "maintenance_log", "analysis", "code", "extraction", "instruction")


def text_seed(split: Split, rng: random.Random) -> int:
    """A seed for a text of this split."""
    return _FIRST_SEED[split] + rng.randrange(_N_SEEDS - 2000)


def document(kind: str, n_chars: int, split: Split, rng: random.Random) -> str:
    """A document of about `n_chars` characters, never much shorter; its end may be in the middle of things.

    Raises:
        KeyError: there is no such kind.
    """
    seed = text_seed(split, rng)
    if kind == RECALL:
        return _recall(n_chars, seed, rng)
    if kind == DRILL:
        return drill(n_chars, rng)
    if kind == "maintenance_log":
        return _log(n_chars, seed, rng)
    if kind == "extraction":
        return _extraction(n_chars, seed, rng)
    if kind in _AFTER_TASK:
        return _with_task(kind, n_chars, seed, rng)
    return context_text(kind, n_chars, seed)


def _log(n_chars: int, seed: int, rng: random.Random) -> str:
    rounds = itertools.islice(get("maintenance_log").chunks(seed), rng.randrange(_LOG_ROUNDS), None)
    pieces: list[str] = []
    while sum(map(len, pieces)) < n_chars:
        pieces.append(next(rounds))
    return "".join(pieces)


def _extraction(n_chars: int, seed: int, rng: random.Random) -> str:
    """Orders, the task, and the records, most often of all of them."""
    told, records, length = [], [], 0
    # A record is about as long again as its sentence, so half of the room goes to the sentences.
    share = rng.choice((0.45, 0.45, 0.7, 0.9))
    for order, line in orders(seed):
        told.append(line)
        records.append(order.json_line)
        length += len(line)
        if length >= n_chars * share:
            break
    task = get("extraction").task
    head = '{"order":'
    # Prompts are cut to their depth in the middle of an order, which then has no record.
    cut = len(told[-1]) - rng.randrange(len(told[-1])) if len(told) > 1 and rng.random() < 0.7 else 0
    if cut:
        told[-1] = told[-1][:-cut]
        records.pop()
    written = "\n".join(records).removeprefix(head)
    return "".join(told) + task + written + "\n"


@dataclass(frozen=True)
class _AfterTask:
    """What follows a task, and what goes on after that until the document is long enough."""

    answer: Callable[[random.Random], str]
    more: Callable[[random.Random, int], str]


def _more_of(kind: str) -> Callable[[random.Random, int], str]:
    def more(rng: random.Random, seed: int) -> str:
        chunks = get(kind).chunks(seed + 1 + rng.randrange(1000))
        # The first chunk of code is the module's head.
        return next(itertools.islice(chunks, 1, None)) if kind == "code" else next(chunks)

    return more


_AFTER_TASK = {
    "analysis": _AfterTask(essay.essay, lambda rng, _: essay.essay(rng)),
    "code": _AfterTask(functions.body, _more_of("code")),
    "factual": _AfterTask(questions.task_answers, lambda rng, _: questions.round_of_questions(rng)),
    "thinking": _AfterTask(thoughts.thoughts, _more_of("thinking")),
    "instruction": _AfterTask(plan.plan, _more_of("instruction")),
}


def _with_task(kind: str, n_chars: int, seed: int, rng: random.Random) -> str:
    after = _AFTER_TASK[kind]
    task, answer = get(kind).task, after.answer(rng)
    room = n_chars - len(task) - len(answer)
    context = context_text(kind, max(room, 200), seed)[: max(room, rng.randrange(200))]
    pieces = [context, task, answer]
    while rng.random() < 0.7 and sum(map(len, pieces)) < n_chars + 600:
        pieces.append(after.more(rng, seed))
    return "".join(pieces)


def _recall(n_chars: int, seed: int, rng: random.Random) -> str:
    """Facts, other text, questions about any fact so far, and again."""
    kind = rng.choice(_FILLERS)
    filler = context_text(kind, n_chars, seed)
    facts: list[recall.Fact] = []
    pieces: list[str] = []
    used = length = 0
    while length < n_chars:
        if len(facts) < 60:
            fresh = recall.draw_facts(rng, rng.randrange(2, recall.FACTS_PER_CASE + 1), facts)
            facts += fresh
            pieces.append("".join(fact.statement for fact in fresh) + "\n")
        # Many short gaps, some that span most of the document.
        gap = int(n_chars * rng.random() ** 4) if rng.random() < 0.8 else 0
        if gap:
            pieces.append(filler[used : used + gap] + "\n\n")
            used += gap
        for fact in rng.sample(facts, min(len(facts), rng.randrange(1, 5))):
            pieces.append(fact.question + fact.answer)
        pieces.append("\n")
        length = sum(map(len, pieces))
    return "".join(pieces)
