"""What a draft length controller learns as a text goes on: what steps cost, and how long drafts survive.

Pure numbers, no clock: times and outcomes are handed in.
"""

from __future__ import annotations

from collections import deque

# Step times kept of each draft length: the median of so few follows a growing depth and drops a step during which
# something else had the processor.
KEPT = 15
# What is left of a position's counts after a step whose draft was too short for it: so a length that did not pay is
# tried again, once in a hundred steps or two.
UNSEEN = 0.99


class Costs:
    """Time of a step by the length of its draft, in ns: drafting, verifying and rolling back."""

    def __init__(self, limit: int) -> None:
        """Nothing is known.

        Args:
            limit: the longest draft.
        """
        self._times: list[deque[int]] = [deque(maxlen=KEPT) for _ in range(limit + 1)]
        self._median: list[float | None] = [None] * (limit + 1)
        self._taken_at = [0] * (limit + 1)
        self.longest = -1

    def add(self, length: int, ns: int, at: int) -> None:
        """A step with a draft of `length` took `ns`; `at` numbers the steps."""
        times = self._times[length]
        times.append(ns)
        self._median[length] = float(sorted(times)[len(times) // 2])
        self._taken_at[length] = at
        self.longest = max(self.longest, length)

    def known(self, length: int) -> bool:
        """Whether a step of this length was ever timed."""
        return self._median[length] is not None

    def age(self, length: int, at: int) -> int:
        """Steps since a step of this length was timed."""
        return at - self._taken_at[length]

    def enough(self, length: int, n: int) -> bool:
        """Whether `n` steps of this length are behind its time."""
        return len(self._times[length]) >= n

    def of(self, length: int) -> float:
        """The median of the last steps of this length; for a length not tried yet, the line of shorter ones.

        That line comes from the shorter ones, so it is the hopeful guess: a cliff further up (a backend whose kernel
        takes so many columns and no more) is known when it was met, and not held against the lengths before it.
        """
        time = self._median[length]
        return time if time is not None else self._guess(length)

    def _guess(self, length: int) -> float:
        known = [at for at, time in enumerate(self._median) if time is not None]
        left = max((at for at in known if at < length), default=None)
        right = min((at for at in known if at > length), default=None)
        if left is None:
            return 0.0 if right is None else self.of(right)
        # The first drafted token changes the kind of the work, so the way from 0 to 1 foretells nothing.
        before = min((at for at in known if 0 < at < left), default=None)
        slope = 0.0 if before is None else max((self.of(left) - self.of(before)) / (left - before), 0.0)
        guess = self.of(left) + (length - left) * slope
        return guess if right is None else min(guess, self.of(right))

    def forget(self) -> None:
        """Keep one time of each length: another text may stand at another depth."""
        for times in self._times:
            while len(times) > 1:
                times.popleft()


class Survivors:
    """The chance of each drafted position, given that all before it were accepted, from the drafts that reached it.

    A draft that was accepted whole says nothing of the position after it (it is censored there), so that position's
    counts stay as they are: the estimate of Kaplan and Meier (1958), with weights that fade.
    """

    def __init__(self, limit: int, memory: float, first: float, weight: float) -> None:
        """Nothing was seen.

        Args:
            limit: the longest draft.
            memory: how many observations of a position are remembered, each counting less than the one after it.
            first: the chance that the first position has while nothing was seen of it.
            weight: how many observations that guess is worth; a later position's guess is the one before it.
        """
        self._keep = 1 - 1 / memory
        self._first, self._weight = first, weight
        self._reached = [0.0] * limit
        self._held = [0.0] * limit

    def add(self, drafted: int, accepted: int) -> None:
        """A draft of `drafted` tokens had its first `accepted` ones accepted."""
        reached, held, keep = self._reached, self._held, self._keep
        for at in range(min(drafted, accepted + 1)):
            reached[at] = keep * reached[at] + 1
            held[at] = keep * held[at] + (at < accepted)
        for at in range(drafted, len(reached)):
            reached[at] *= UNSEEN
            held[at] *= UNSEEN

    def fade(self, share: float) -> None:
        """What was seen counts for this share of what it did: the text has gone on without a draft."""
        self._reached = [share * count for count in self._reached]
        self._held = [share * count for count in self._held]

    def weight(self) -> float:
        """How many observations stand behind the first position."""
        return self._reached[0]

    def expected(self) -> list[float]:
        """Tokens that a step gives with drafts of 0, 1, … limit: 1 + s_1 + … + s_n (arXiv:2211.17192, section 3)."""
        tokens, survives, guess, weight = [1.0], 1.0, self._first, self._weight
        for reached, held in zip(self._reached, self._held, strict=True):
            guess = (weight * guess + held) / (weight + reached)
            survives *= guess
            tokens.append(tokens[-1] + survives)
        return tokens
