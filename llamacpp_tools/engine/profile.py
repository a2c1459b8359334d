"""What a draft of each length takes, timed in turns before the first text.

A controller that knows nothing finds out in its first texts, and each step at a length that is not the best one is
lost there; so it times each of them a few times only, and lengths that differ by a few percent stay mixed up. Before a
text, as a benchmark warms up, every length is timed as often as the others, and each pass goes the other way round, so
that a machine that becomes slower or faster meanwhile meets all of them alike.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

from llamacpp_tools.engine.control import Chooser, Why
from llamacpp_tools.engine.decode import Decoder
from llamacpp_tools.engine.generate import Limits, Run, fill

# Passes over all lengths, and steps of a length in each. A change's first step is never timed (`Control.told`), and one
# time of a step scatters by more than what near lengths differ by.
PASSES, STEPS = 4, 4


def passes(limit: int) -> list[list[int]]:
    """The draft length of each step, by pass: from 0 to `limit`, then back, and so on."""
    up = [length for length in range(limit + 1) for _ in range(STEPS)]
    return [up[::-1] if number % 2 else up for number in range(PASSES)]


def room(limit: int) -> int:
    """Tokens that one pass generates at most, as all that is drafted may be accepted."""
    return 1 + STEPS * sum(length + 1 for length in range(limit + 1))


class Turns:
    """Chooses what it is given, one length after the other, and lets a controller hear what they take."""

    def __init__(self, control: Chooser, lengths: Sequence[int]) -> None:
        """Nothing was chosen.

        Args:
            control: is told of every step.
            lengths: of the drafts; no more steps can be asked for.
        """
        self._control, self._lengths = control, iter(lengths)

    @property
    def why(self) -> int:
        """Each step is timed for its own sake."""
        return Why.CALIBRATE

    @property
    def catch_up(self) -> int:
        """As the controller has it."""
        return self._control.catch_up

    def begin(self) -> None:
        """Nothing to forget."""

    def choose(self) -> int:
        """The next length."""
        return next(self._lengths)

    def told(self, drafted: int, accepted: int, draft_ns: int, verify_ns: int) -> None:
        """Passed on."""
        self._control.told(drafted, accepted, draft_ns, verify_ns)


def profile(decoder: Decoder, prompt: Sequence[int], control: Chooser, limit: int, ffi: Any) -> None:
    """Time every length after `prompt` and tell `control`, which then begins a text.

    Args:
        decoder: with MTP; what its caches hold is lost.
        prompt: token ids, at least one; prefilled once for each pass.
        control: keeps what lengths cost, and forgets how drafts survived.
        limit: the longest draft.
        ffi: of the library that the decoder runs on.

    Raises:
        LltError: a decode failed.
    """
    control.begin()
    for lengths in passes(limit):
        run = Run(decoder, fill(decoder, prompt), Limits(room(limit), limit), ffi, Turns(control, lengths))
        # The first thing that a run gives is the token that the prefill gave.
        deque(itertools.islice(run, 1 + len(lengths)), maxlen=0)
    control.begin()
