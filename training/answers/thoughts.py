"""Thoughts about the water tank that the task of `thinking` describes, said in many ways, and its answer.

The sums, in thirty-sixths of the tank: the inlets give 6 and 4 an hour, the outlet takes 3. From a quarter
(9) at 8 the first inlet and the outlet bring it to 15 at 10; all three together add 7 an hour, so the missing
21 take 3 hours: full at 1. Without the outlet from 11 on, when 22 are in, the missing 14 come at 10 an hour:
84 minutes, full at 24 minutes past 12.
"""

from __future__ import annotations

import random

_STARTS = (
    " Let me fix a unit first. With the tank as 36 parts, the first inlet gives 6 parts an hour, the second 4, "
    "and the outlet takes 3.",
    " First the rates. In one hour the first inlet fills a sixth, the second a ninth, and the outlet empties a "
    "twelfth; in thirty-sixths that is 6, 4 and 3.",
    " I take 36 parts for the whole tank, since 6, 9 and 12 all divide 36. Then the inlets bring 6 and 4 parts an "
    "hour and the outlet takes away 3.",
)
_FIRST = (
    " From 8 to 10 the first inlet and the outlet are open, so 3 parts are gained an hour, 6 in all. The quarter "
    "at the start is 9 parts, which makes 15 at 10.",
    " At 8 there are 9 parts. Until 10 each hour brings 6 less 3, so 3, and two hours bring 6: at 10 the tank "
    "holds 15.",
    " A quarter is 9 parts. Two hours at 6 less 3 give 6 more, hence 15 parts at 10.",
)
_DOUBTS = (
    " Wait, is the outlet open from the start? Yes, it is opened at 8 with the first inlet, so it counts.",
    " Let me try the other way: if nothing were taken out, there would be 9 and 12, so 21 at 10; the outlet takes "
    "2 times 3, that is 6, and 21 less 6 is 15 again.",
    " That looks right, but I should check the unit: a quarter of 36 is 9, and 9 and 6 are 15, so it holds.",
    " One could think that the outlet is only opened at 10, but the problem says otherwise.",
)
_SECOND = (
    " From 10 on all three are open: 6 and 4 less 3 are 7 parts an hour. Missing are 36 less 15, so 21, and 21 "
    "over 7 is 3 hours. The tank is full at 1.",
    " After 10 the gain is 6 and 4 less 3, which is 7. There are 21 parts to go, and 21 over 7 is 3, so it is full "
    "3 hours after 10, at 1.",
)
_CHECKS = (
    " A check from the other end: 5 hours of the first inlet are 30, 3 hours of the second are 12, 5 hours of the "
    "outlet are 15; 9 and 30 and 12 less 15 make 36, as they should.",
    " To be sure, by another way: the outlet takes 15 in 5 hours, the inlets bring 30 and 12, and with the 9 at "
    "the start that is 51 less 15, so 36. Both ways agree.",
)
_CLOSED = (
    " Now the outlet is closed at 11. At 11 there are 15 and 7, so 22 parts, and 14 are missing. Without the outlet "
    "the gain is 10 an hour, so 14 parts take an hour and 24 minutes: full at 24 minutes past 12.",
    " If the outlet is closed at 11, the tank holds 22 then. The two inlets bring 10 an hour, the missing 14 take "
    "84 minutes, and the tank is full at 24 minutes past 12, 36 minutes sooner.",
)
_ANSWERS = (
    "The tank is full at 1 in the afternoon; with the outlet closed at 11 it is full at 24 minutes past 12.",
    "At 1 in the afternoon. If the outlet were closed at 11, the tank would be full 36 minutes sooner, at 24 "
    "minutes past 12.",
)


def thoughts(rng: random.Random) -> str:
    """Thoughts that go on from `Thoughts:`, then the answer, closed by an empty line."""
    parts = [rng.choice(_STARTS), rng.choice(_FIRST)]
    parts += rng.sample(_DOUBTS, rng.randrange(1, 3))
    parts += [rng.choice(_SECOND), rng.choice(_CHECKS), rng.choice(_CLOSED)]
    return "".join(parts) + f"\nAnswer: {rng.choice(_ANSWERS)}\n\n"
