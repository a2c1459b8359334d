"""The schedule of a forced cell: every draft length in turns, so that what a step costs is told side by side."""

from __future__ import annotations

import itertools
from typing import TypedDict

# Steps of one length in a row: libllama reuses its graph while a batch keeps its shape, as in a real generation.
BLOCK = 12
# Of these, the first ones pay for the change of length and for what the MTP block has to catch up with.
SETTLING = 2


class Schedule(TypedDict):
    """For each step, the length of its draft and how much of it is accepted."""

    drafts: list[int]
    accepts: list[int]


def forced_schedule(n_max: int, n_predict: int) -> Schedule:
    """Blocks of `BLOCK` steps with drafts of 0, 1, … `n_max` tokens, then back, until `n_predict` tokens are made.

    Up and down again, as a step costs more from token to token and no length may have the deeper half. A draft of n is
    accepted in turn by 0, 1, … n tokens, half of it in the mean: rollbacks of all sizes are in the price, as they are
    in a text.
    """
    lengths = list(range(n_max + 1))
    schedule = Schedule(drafts=[], accepts=[])
    made = 1
    for turn in itertools.count():
        for length in lengths if turn % 2 == 0 else reversed(lengths):
            for step in range(BLOCK):
                accepted = step % (length + 1)
                schedule["drafts"].append(length)
                schedule["accepts"].append(accepted)
                made += accepted + 1
                if made >= n_predict:
                    return schedule
    raise AssertionError("the count never ends")


def settled(drafted: list[int]) -> list[bool]:
    """For each step, whether it counts: not among the first `SETTLING` of its length since that changed."""
    found, since, before = [], 0, -1
    for length in drafted:
        since = since + 1 if length == before else 0
        before = length
        found.append(since >= SETTLING)
    return found
