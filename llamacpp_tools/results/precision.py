"""Whether the rounds so far tell a lever's gain closely enough."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.record import rows
from llamacpp_tools.sweep.outcome import CellOutcome


def narrow_enough(outcomes: Sequence[CellOutcome], width: float) -> bool:
    """Whether every decode ratio among `outcomes` has an interval narrower than `width` of the ratio.

    Args:
        outcomes: the cells of one comparison.
        width: 0.02 for an interval of two per cent from end to end.

    Returns:
        True also where nothing can be compared, as more rounds would not change that.
    """
    found = [item for item in compare(rows(outcomes)) if item.metric == "decode_tps"]
    return all(
        item.interval is not None and item.interval[1] - item.interval[0] <= width * item.ratio
        for item in found
    )
