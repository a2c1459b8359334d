"""What an automatic draft length did, told from the steps of a cell's rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llamacpp_tools.engine.control import REASONS, Why
from llamacpp_tools.results import statistics
from llamacpp_tools.results.schema import Steering
from llamacpp_tools.sweep.forced import settled
from llamacpp_tools.sweep.protocol import RoundSample


def steering(rounds: Sequence[RoundSample]) -> Steering | None:
    """Time by length and by reason, and the best fixed length in hindsight; None where nothing was stepped."""
    whole = sum(sum(sample.step_ns) for sample in rounds)
    if not whole:
        return None
    by_length: Counter[int] = Counter()
    by_reason: Counter[str] = Counter()
    switches = 0
    for sample in rounds:
        for length, why, ns in zip(sample.step_drafted, sample.step_why, sample.step_ns, strict=True):
            by_length[length] += ns
            by_reason[REASONS[Why(why)]] += ns
        switches += sum(a != b for a, b in zip(sample.step_drafted, sample.step_drafted[1:], strict=False))
    rates = _rates(rounds)
    best = max(rates, key=rates.__getitem__, default=None)
    speed = sum(sample.n_gen for sample in rounds) / whole
    return Steering(
        time_share={length: round(ns / whole, 4) for length, ns in sorted(by_length.items())},
        reasons={reason: round(ns / whole, 4) for reason, ns in by_reason.most_common()},
        switches=switches / len(rounds),
        best_fixed=best,
        regret=None if best is None else 1 - speed / rates[best],
    )


def _rates(rounds: Sequence[RoundSample]) -> dict[int, float]:
    """Tokens per nanosecond that each fixed length would have given: E(n) / T(n) (see `engine.control`)."""
    steps = [
        pair for sample in rounds for pair in zip(sample.step_drafted, sample.step_accepted, strict=True)
    ]
    expected, survives, rates = 1.0, 1.0, {}
    for length in range(max((drafted for drafted, _ in steps), default=-1) + 1):
        if length:
            reached = [
                accepted for drafted, accepted in steps if drafted >= length and accepted >= length - 1
            ]
            survives *= sum(accepted >= length for accepted in reached) / len(reached) if reached else 0.0
            expected += survives
        times = [ns for sample in rounds for ns in _settled(sample, length)]
        middle = statistics.median(times)
        if middle:
            rates[length] = expected / middle
    return rates


def _settled(sample: RoundSample, length: int) -> list[float]:
    rows = zip(sample.step_drafted, settled(sample.step_drafted), sample.step_ns, strict=True)
    return [float(ns) for drafted, counts, ns in rows if counts and drafted == length]
