"""How a run changes as it goes: learning rate and length of the rows, both by progress from 0 to 1."""

from __future__ import annotations

import bisect
import math
import random
from dataclasses import dataclass

import numpy as np

from training.drills import NO_DRILLS, Drills

TOKENS_PER_STEP = 4096
WARMUP_STEPS = 80
FINAL_SHARE = 0.02

# From this progress on, the shares of the tokens by row length. Short rows first, since they cost least and
# teach words and forms; long ones at the end, so that positions up to 8,192 and beyond are all seen.
CURRICULUM: tuple[tuple[float, dict[int, float]], ...] = (
    (0.00, {512: 0.9, 1024: 0.1}),
    (0.25, {512: 0.4, 1024: 0.5, 2048: 0.1}),
    (0.50, {512: 0.2, 1024: 0.4, 2048: 0.3, 4096: 0.1}),
    (0.70, {512: 0.1, 1024: 0.3, 2048: 0.25, 4096: 0.15, 8192: 0.2}),
    (0.85, {512: 0.1, 1024: 0.25, 2048: 0.2, 4096: 0.15, 8192: 0.2, 10240: 0.1}),
)

# From this progress on, the share of the documents that are drills; `corpus.MIXTURE` parts the rest. First words
# and forms; then almost nothing but drills, twice, until the model looks back: in three tries that took 200 to 600
# such steps, and it never came in six million tokens of texts. What drills make it forget, texts bring back soon.
DRILLS: tuple[tuple[float, float], ...] = (
    (0.0, 0.0), (0.04, 0.9), (0.14, 0.2), (0.252, 0.9), (0.315, 0.2), (0.5, 0.1)
)  # fmt: skip
# The longest list in a drill, by progress, linear in between; long ones at once teach little.
LISTS: tuple[tuple[float, int], ...] = ((0.04, 3), (0.12, 33), (0.252, 33), (0.252, 8), (0.315, 33))


@dataclass(frozen=True)
class RowShape:
    """What one process computes in one step: `n_rows` rows of `n_tokens` tokens, and the drills among the texts."""

    n_rows: int
    n_tokens: int
    drills: Drills = NO_DRILLS


def row_shape(progress: float, seed: int, step: int, n_workers: int) -> RowShape:
    """The rows of a step for each process, drawn so that in the long run each length has its share.

    All processes together see about `TOKENS_PER_STEP` tokens, or one row each where a row is longer.
    """
    stage = bisect.bisect_right([start for start, _ in CURRICULUM], progress) - 1
    shares = CURRICULUM[stage][1]
    rows = {length: max(1, TOKENS_PER_STEP // (n_workers * length)) for length in shares}
    # A step of longer rows holds more tokens, so it comes up less often.
    weights = [share / (rows[length] * length) for length, share in shares.items()]
    length = random.Random(f"{seed}:length:{step}").choices(list(shares), weights)[0]
    return RowShape(rows[length], length, drills(progress))


def drills(progress: float) -> Drills:
    """The drills among the texts; see `DRILLS`."""
    share = DRILLS[bisect.bisect_right([start for start, _ in DRILLS], progress) - 1][1]
    starts, lengths = zip(*LISTS, strict=True)
    return Drills(share, round(float(np.interp(progress, starts, lengths))))


def learning_rate(peak: float, progress: float, step: int) -> float:
    """Linear warm-up over the first steps, then half a cosine down to a small share of the peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)
