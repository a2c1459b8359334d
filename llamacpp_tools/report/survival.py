"""How far drafts get: the chance that the first k tokens of a draft are accepted.

Every step that drafted k tokens either kept all of them or lost the chain on the way, so what is left of the chain at
k is found step by step (Kaplan and Meier, 1958): a draft that ended early, by `p_min` or at the text's end, says
nothing of the positions it did not reach. Where only the counts per position are known, accepted over drafted at a
position is the same thing as long as all drafts are equally long.
"""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_tools.results.schema import Cell


def survival(cell: Cell) -> list[float]:
    """P(first k drafted tokens accepted) for k = 1, 2, …; empty without MTP or without counts."""
    drafted = [count for sample in cell.samples for count in sample.step_drafted]
    accepted = [count for sample in cell.samples for count in sample.step_accepted]
    if drafted and len(drafted) == len(accepted):
        return _by_steps(drafted, accepted)
    return _by_positions(cell.drafted_per_position or [], cell.accepted_per_position or [])


def _by_steps(drafted: Sequence[int], accepted: Sequence[int]) -> list[float]:
    chain: list[float] = []
    left = 1.0
    for k in range(1, max(drafted) + 1):
        reached = [
            kept for tried, kept in zip(drafted, accepted, strict=True) if tried >= k and kept >= k - 1
        ]
        if not reached:
            break
        left *= sum(kept >= k for kept in reached) / len(reached)
        chain.append(left)
    return chain


def _by_positions(drafted: Sequence[int], accepted: Sequence[int]) -> list[float]:
    chain: list[float] = []
    for tried, kept in zip(drafted, accepted, strict=False):
        if tried <= 0:
            break
        # Of drafts of unequal length the longer ones are the better ones: the chain may not rise by that.
        chain.append(min(kept / tried, chain[-1] if chain else 1.0))
    return chain
