"""Bodies for the function that the task of `code` leaves to be written."""

from __future__ import annotations

import random

_BODIES = (
    """    for start, end in {spans}:
        if end < start:
            raise ValueError(f"the {span} ({{start}}, {{end}}) ends before it starts")
    {merged} = []
    for start, end in sorted({spans}):
        if {merged} and start <= {merged}[-1][1]:
            {merged}[-1] = ({merged}[-1][0], max({merged}[-1][1], end))
        else:
            {merged}.append((start, end))
    return {merged}
""",
    """    if any(end < start for start, end in {spans}):
        raise ValueError("a {span} ends before it starts")
    {merged} = []
    for start, end in sorted({spans}):
        if not {merged} or start > {merged}[-1][1]:
            {merged}.append((start, end))
        else:
            first, last = {merged}.pop()
            {merged}.append((first, max(last, end)))
    return {merged}
""",
)


def body(rng: random.Random) -> str:
    """A body of `merge_overlapping`, one of few shapes."""
    merged = rng.choice(("merged", "joined", "result"))
    return rng.choice(_BODIES).format(spans="spans", span="span", merged=merged)
