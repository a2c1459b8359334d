"""How long a draft survives: s_k, the probability that its first k tokens are all accepted.

From the chance at each position of the drafts that reached it, one after the other (Kaplan and Meier, 1958), never from
accepted over all steps: a draft that was cut short says nothing about the positions that it did not reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from llamacpp_tools.advise.estimate import DRAWS, Floats, generator
from llamacpp_tools.results.schema import Cell
from llamacpp_tools.results.statistics import LEVEL

Counts = list[tuple[int, int]]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Survival:
    """s_1, s_2, … of one kind of text.

    Attributes:
        s: by position from the first drafted token.
        draws: what they might be as well, [DRAWS, len(s)], from the steps drawn anew; None of published figures.
        n_steps: the steps behind them.
    """

    s: Floats
    draws: Floats | None
    n_steps: int

    @property
    def measured(self) -> int:
        """The longest draft that was measured."""
        return len(self.s)

    @property
    def intervals(self) -> list[list[float]] | None:
        """Of each s_k, at `statistics.LEVEL`; None of published figures."""
        if self.draws is None:
            return None
        tail = 100 * (1 - LEVEL) / 2
        bounds: list[list[float]] = np.percentile(self.draws, [tail, 100 - tail], axis=0).T.tolist()
        return bounds

    def expected(self, n_max: int) -> tuple[float, Floats | None]:
        """Tokens that a step with a draft of `n_max` gives, 1 + s_1 + … + s_n: the value, and its draws [DRAWS].

        Past what was measured the last position's chance is carried on.
        """
        value = float(1 + _extended(self.s[None, :], n_max).sum())
        return value, None if self.draws is None else 1 + _extended(self.draws, n_max).sum(axis=1)

    def acceptance(self, n_max: int) -> float:
        """Accepted over drafted with drafts of `n_max`, as llama.cpp counts it."""
        return (self.expected(n_max)[0] - 1) / n_max


def survival(cell: Cell, n_max: int | None = None, stream: int = 0) -> Survival | None:
    """What a cell with MTP tells; None without figures, or where `p_min` ended the drafts.

    Args:
        cell: a row of a result.
        n_max: the draft's length, for a published row that does not say.
        stream: numbers the random draws.
    """
    if cell.status != "ok" or cell.forced or cell.p_min or not cell.acceptance:
        return None
    steps = _steps(cell)
    if steps:
        return of_steps(steps, stream)
    length = cell.n_max or n_max
    return None if length is None else _of_constant_chance(cell.acceptance, length)


def _steps(cell: Cell) -> Counts:
    """(drafted, accepted) of each step; a round that repeats another's tokens adds nothing."""
    found: Counts = []
    for sample in {sample.output_sha256: sample for sample in cell.samples}.values():
        if sample.step_drafted:
            found += zip(sample.step_drafted, sample.step_accepted, strict=True)
        else:
            found += _from_positions(sample.drafted, sample.accepted)
    return [(drafted, accepted) for drafted, accepted in found if drafted]


def _from_positions(drafted: list[int], accepted: list[int]) -> Counts:
    """Steps that have these counts by position; how lengths and acceptance met in a step is not known any more."""
    lengths, reached = _ended_at(drafted), _ended_at(accepted)
    # Longest with longest, as an accepted position was a drafted one.
    return list(zip(lengths, [0] * (len(lengths) - len(reached)) + reached, strict=True))


def _ended_at(counts: list[int]) -> list[int]:
    """For each step that reached position 1 the last position that it reached, in order."""
    steps = zip(counts, [*counts[1:], 0], strict=True)
    return [at for at, (here, after) in enumerate(steps, 1) for _ in range(here - after)]


def of_steps(steps: Counts, stream: int) -> Survival:
    """What (drafted, accepted) of each step tell; a step without a draft is left out of `steps`.

    Args:
        steps: at least one.
        stream: numbers the random draws.
    """
    table = np.asarray(steps)
    positions = np.arange(1, int(table[:, 0].max()) + 1)
    # [steps, positions]: whether all before was accepted and this was drafted, and whether this was accepted, too.
    reached = (table[:, :1] >= positions) & (table[:, 1:] >= positions - 1)
    held = table[:, 1:] >= positions
    chances = _share(held.sum(axis=0), reached.sum(axis=0))
    weights = generator(stream).multinomial(len(table), np.full(len(table), 1 / len(table)), size=DRAWS)
    drawn = _share(weights @ held.astype(np.int64), weights @ reached.astype(np.int64))
    return Survival(np.multiply.accumulate(chances), np.multiply.accumulate(drawn, axis=1), len(table))


def _share(part: Ints, whole: Ints) -> Floats:
    """`part` over `whole`; 0 where nothing was tried."""
    out: Floats = np.zeros(np.shape(part))
    return np.divide(part, whole, out=out, where=np.asarray(whole) > 0)


def _of_constant_chance(acceptance: float, n_max: int) -> Survival:
    """One chance for all positions that gives this acceptance (Leviathan et al., arXiv:2211.17192)."""
    powers = np.arange(1, n_max + 1, dtype=np.float64)

    def off(alpha: float) -> float:
        return float((alpha**powers).mean() - acceptance)

    alpha = float(optimize.brentq(off, 0.0, 1.0)) if 0 < acceptance < 1 else acceptance
    return Survival(np.power(alpha, powers), None, 0)


def _extended(s: Floats, n_max: int) -> Floats:
    """[rows, n_max] of [rows, measured]."""
    if n_max <= s.shape[1]:
        return s[:, :n_max]
    before = s[:, -2] if s.shape[1] > 1 else np.ones(len(s))
    chance = np.divide(s[:, -1], before, out=np.zeros(len(s)), where=before > 0)
    further = np.arange(1, n_max - s.shape[1] + 1)
    return np.concatenate([s, s[:, -1:] * chance[:, None] ** further], axis=1)
