"""What a step costs: T_step(n) / T(1), drafting n tokens and verifying them, against one token of plain decode.

T_step(n) = T_draft(n) + T_verify(n + 1). The best source is a forced cell, which ran all lengths in turns beside the
plain cell; else the cells with MTP tell of the lengths that they were run with, and of those between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llamacpp_tools.advise.estimate import DRAWS, Estimate, drawn, of_ratios
from llamacpp_tools.results.schema import Cell, StepCost

Source = Literal["forced", "measured", "published"]


@dataclass(frozen=True)
class StepCosts:
    """T_step(n) / T(1) at one depth and recipe.

    Attributes:
        ratios: by n; 0 is a step of a model whose MTP block is loaded and drafts nothing, where that was measured.
        source: `forced` from a forced cell, `measured` from cells with MTP, `published` from single figures.
        parts: of the forced cell, draft and verification apart.
    """

    ratios: Mapping[int, Estimate]
    source: Source
    parts: Sequence[StepCost] = ()

    @property
    def lengths(self) -> range:
        """The drafts that may be told of: from the shortest that was measured to the longest."""
        return range(min(n for n in self.ratios if n), max(self.ratios) + 1)

    @property
    def idle(self) -> Estimate | None:
        """A step without a draft in a session that could draft, against plain decode; None if not measured."""
        return self.ratios.get(0)

    def ratio(self, n_max: int) -> Estimate:
        """T_step(n) / T(1) for one of `lengths`, on a straight line between two that were measured."""
        if n_max in self.ratios:
            return self.ratios[n_max]
        below = max(n for n in self.ratios if n < n_max)
        above = min(n for n in self.ratios if n > n_max)
        low, high = self.ratios[below], self.ratios[above]
        share = (n_max - below) / (above - below)
        value = low.value * (1 - share) + high.value * share
        if low.draws is None and high.draws is None:
            return Estimate(value)
        return Estimate(value, np.broadcast_to(drawn(low) * (1 - share) + drawn(high) * share, (DRAWS,)))

    def break_even(self, n_max: int) -> Estimate:
        """Accepted over drafted from which a draft of `n_max` pays: (T_step(n) / T(1) - 1) / n."""
        ratio = self.ratio(n_max)
        draws = None if ratio.draws is None else (ratio.draws - 1) / n_max
        return Estimate((ratio.value - 1) / n_max, draws)


def of_break_evens(found: Iterable[float]) -> list[str]:
    """What break-evens outside 0 to 1 mean, in sentences."""
    values, said = list(found), []
    if any(value < 0 for value in values):
        said.append(
            "A break-even below 0 says that a step with a draft took less time than a plain one: a busy machine's "
            "figure (measure again), or this backend is slow at decoding a single token."
        )
    if any(value > 1 for value in values):
        said.append("A break-even above 1 says that not even drafts that are all accepted pay.")
    return said


def from_forced(forced: Cell, plain: Cell, stream: int = 0) -> StepCosts | None:
    """The costs that a forced cell measured beside the plain cell of the same recipe; None if either has none."""
    if forced.status != "ok" or plain.status != "ok" or not forced.step_costs:
        return None
    single = _token_ms(plain)
    ratios = {}
    for cost in forced.step_costs:
        rounds = min(len(cost.samples_ms), len(single))
        if rounds:
            ratios[cost.n_max] = of_ratios(cost.samples_ms[:rounds], single[:rounds], stream + cost.n_max)
    return StepCosts(ratios, "forced", tuple(forced.step_costs)) if len(ratios) > 1 else None


def from_cells(
    pairs: Sequence[tuple[Cell, Cell]], n_max: int | None = None, stream: int = 0
) -> StepCosts | None:
    """The costs that cells with MTP tell of.

    Args:
        pairs: each a cell with MTP and the plain cell of the same recipe, depth and workload.
        n_max: the draft's length, for published rows that do not say.
        stream: numbers the random draws.
    """
    found: dict[int, list[Estimate]] = {}
    source: Source = "published"
    for drafting, plain in pairs:
        length = drafting.n_max or n_max
        if length is None or drafting.status != "ok" or plain.status != "ok" or drafting.p_min:
            continue
        if drafting.samples and plain.samples:
            source = "measured"
            steps = {s.round: s.decode_ns / s.n_steps for s in drafting.samples if s.n_steps}
            tokens = {s.round: s.decode_ns / s.n_gen for s in plain.samples if s.n_gen}
            both = sorted(steps.keys() & tokens.keys())
            if both:
                ratio = of_ratios([steps[at] for at in both], [tokens[at] for at in both], stream + length)
                found.setdefault(length, []).append(ratio)
        elif drafting.decode_tps and plain.decode_tps and drafting.acceptance is not None:
            per_step = 1 + length * drafting.acceptance
            found.setdefault(length, []).append(Estimate(per_step * plain.decode_tps / drafting.decode_tps))
    ratios = {length: _middle(estimates) for length, estimates in sorted(found.items())}
    return StepCosts(ratios, source) if ratios else None


def _token_ms(plain: Cell) -> list[float]:
    return [sample.decode_ns / sample.n_gen / 1e6 for sample in plain.samples if sample.n_gen]


def _middle(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over texts of what a step costs: it does not depend on the text."""
    value = float(np.mean([estimate.value for estimate in estimates]))
    known = [estimate.draws for estimate in estimates if estimate.draws is not None]
    return Estimate(value, np.mean(known, axis=0) if known else None)
