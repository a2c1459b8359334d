"""Each lever's gain: one mode's speed over another's within a 2x2, with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from llamacpp_tools.results import statistics
from llamacpp_tools.results.groups import Group, groups
from llamacpp_tools.results.schema import Cell, Comparison, Mode, Verdict
from llamacpp_tools.sweep.cell import uses_mtp

Metric = Literal["decode_tps", "prefill_tps"]
METRICS: tuple[Metric, ...] = ("decode_tps", "prefill_tps")
PAIRS: tuple[tuple[Mode, Mode], ...] = (
    ("swa", "dense"),
    ("mtp", "dense"),
    ("swa+mtp", "dense"),
    ("swa+mtp", "swa"),
    ("swa+mtp", "mtp"),
)
# Texts whose distinct-word ratios are further apart than this are not equally hard to draft for.
CONFOUNDED_ABOVE = 0.1


def compare(cells: Sequence[Cell]) -> list[Comparison]:
    """Every pair of `PAIRS` in every 2x2 of `cells`, decode and prefill; only cells that are ok count."""
    found: dict[tuple[str, str, str], Comparison] = {}
    for group in groups(cells):
        for mode, to_mode in PAIRS:
            cell, to = group.cells.get(mode), group.cells.get(to_mode)
            if cell is None or to is None or cell.status != "ok" or to.status != "ok":
                continue
            for metric in METRICS:
                comparison = _comparison(metric, cell, to, group)
                # A pair without the axis that varies stands in several groups and is compared once.
                if comparison is not None:
                    found.setdefault((comparison.metric, cell.id, to.id), comparison)
    return list(found.values())


def confounded(cell: Cell, to: Cell, beside: Iterable[Cell] = ()) -> bool:
    """Whether the two outputs are so differently varied that neither decode speed nor acceptance compares.

    Args:
        cell: one of them.
        to: the other.
        beside: the cells of their 2x2. Where one of the two texts is not known and those of the others differ, that
            the two are alike is not to be believed.
    """
    if not uses_mtp(cell.mode) and not uses_mtp(to.mode):
        # A step without a draft takes what it takes, whatever it says.
        return False
    ratio, other = cell.distinct_word_ratio, to.distinct_word_ratio
    if ratio is not None and other is not None:
        return abs(ratio - other) > CONFOUNDED_ABOVE
    known = [each.distinct_word_ratio for each in beside if each.distinct_word_ratio is not None]
    return bool(known) and max(known) - min(known) > CONFOUNDED_ABOVE


def verdict(found: statistics.Paired | None) -> Verdict | None:
    """What the rounds of two cells show; None where there are too few to say anything."""
    if found is None or found.differs is None:
        return None
    if not found.differs:
        return "no difference shown"
    return "faster" if found.ratio > 1 else "slower"


def by_round(cell: Cell, metric: Metric) -> dict[int, float]:
    """The speed of each round by its number; of prefills only those that were truly made in that round."""
    found = {}
    for sample in cell.samples:
        speed = statistics.tokens_per_second(sample.n_gen, sample.decode_ns)
        if metric == "prefill_tps":
            true = sample.filled == "prefill"
            speed = statistics.tokens_per_second(sample.n_prompt, sample.prefill_ns) if true else None
        if speed is not None:
            found[sample.round] = speed
    return found


def _comparison(metric: Metric, cell: Cell, to: Cell, group: Group) -> Comparison | None:
    decode = metric == "decode_tps"
    speed, other = (cell.decode_tps, to.decode_tps) if decode else (cell.prefill_tps, to.prefill_tps)
    if not speed or not other:
        return None
    ours, theirs = by_round(cell, metric), by_round(to, metric)
    both = sorted(ours.keys() & theirs.keys())
    if not both and cell.samples and to.samples:
        # Prefills that were kept from elsewhere were not made side by side.
        return None
    found = statistics.paired([ours[at] for at in both], [theirs[at] for at in both])
    return Comparison.model_validate(
        {
            "metric": metric,
            "cell": cell.id,
            "to": to.id,
            "mode": cell.mode,
            "to_mode": to.mode,
            "n_depth": cell.n_depth,
            "workload": cell.workload,
            "ratio": found.ratio if found else speed / other,
            "interval": found.interval if found else None,
            "level": statistics.LEVEL,
            "rounds": found.rounds if found else 0,
            "p_value": found.p_value if found else None,
            "verdict": verdict(found),
            "confounded": decode and confounded(cell, to, group.cells.values()),
        }
    )
