"""Exercises in looking back: lists told again, and facts asked for at once.

What a long context is for is to copy from it. The other texts teach that late, since few of their tokens need it;
here about half do. They are only trained on, never measured.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from llamacpp_tools.workloads import recall
from llamacpp_tools.workloads.people import FIRST_NAMES, LAST_NAMES, PLACES

_HEADS = ("List", "Items", "Names", "Entries", "Words")
_SEPARATORS = (", ", "; ", "\n", " ")


@dataclass(frozen=True)
class Drills:
    """How much is drilled, and how hard.

    Attributes:
        share: of the documents, 0 to 1.
        longest: entries of the longest list; a short one is told more often.
    """

    share: float
    longest: int


NO_DRILLS = Drills(0.0, 3)
# What is validated on.
HARDEST = 30
_TOLD_ENTRIES = 16


def drill(n_chars: int, rng: random.Random, longest: int = HARDEST) -> str:
    """At least `n_chars` characters of exercises of both kinds, lists three times of four."""
    pieces: list[str] = []
    while sum(map(len, pieces)) < n_chars:
        pieces.append(_told_again(rng, longest) if rng.random() < 0.75 else _asked_at_once(rng))
    return "\n".join(pieces)


def _told_again(rng: random.Random, longest: int) -> str:
    """A list of 1 to `longest` entries, told 2 to 10 times."""
    separator, head = rng.choice(_SEPARATORS), rng.choice(_HEADS)
    count = rng.randrange(1, longest + 1)
    items = separator.join(_item(rng) for _ in range(count))
    return f"{head}: {items}\n" * max(2, min(10, _TOLD_ENTRIES // count))


def _item(rng: random.Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    if kind == 1:
        return rng.choice(PLACES)
    if kind == 2:
        return f"{rng.choice(recall.COLOURS)} {rng.choice(recall.OBJECTS)}"
    if kind == 3:
        return str(rng.randrange(10 ** rng.randrange(1, 6)))
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(1, 7)))


def _asked_at_once(rng: random.Random) -> str:
    facts = recall.draw_facts(rng, rng.randrange(1, recall.FACTS_PER_CASE + 1))
    asked = facts * rng.randrange(1, 4)
    rng.shuffle(asked)
    told = "".join(fact.statement for fact in facts)
    return told + "\n" + "".join(fact.question + fact.answer for fact in asked)
