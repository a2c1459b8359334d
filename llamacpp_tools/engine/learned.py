"""What a draft length controller learns as a text goes on: what steps cost, and how long drafts survive.

Pure numbers, no clock: times and outcomes are handed in.
"""

from __future__ import annotations

# Times that a length's cost rests on, at most, and those that count when another text begins.
KEPT, KEPT_OVER = 24, 12
# Timed steps after a change of length that tell what it costs beside the one before; those after them tell how fast
# the machine is. So do a text's first ones.
FRESH, FIRST = 4, 3
# How far the machine's tempo goes along with what one step took, in a text's first steps too, and the most that one
# step can say.
FOLLOWED, FOLLOWED_FIRST, HEARD = 0.1, 0.5, 0.5
# What is left of a position's counts after a step whose draft was too short for it: so a length that did not pay is
# tried again, once in a hundred steps or two.
UNSEEN = 0.99


class Costs:
    """Time of a step by the length of its draft, in ns: drafting, verifying and rolling back.

    A machine is slower for a while, and a text grows: that meets every length alike, yet only one is used at a time. So
    a length's cost is kept in units of a tempo. Right after a change of length a time tells the length's cost beside
    that of the one before; as a length stays in use, it tells the tempo.
    """

    def __init__(self, limit: int) -> None:
        """Nothing is known.

        Args:
            limit: the longest draft.
        """
        self._units = [0.0] * (limit + 1)
        self._counts = [0] * (limit + 1)
        self._taken_at = [0] * (limit + 1)
        self._tempo = 0.0
        self._length, self._run, self._first = -1, 0, 0
        self._disturbed = False
        self.longest = -1

    def add(self, length: int, ns: int, at: int) -> None:
        """A step with a draft of `length` took `ns`, above 0; `at` numbers the steps."""
        self._tempo = self._tempo or ns
        self._run = self._run + 1 if length == self._length else 1
        self._length = length
        self._taken_at[length] = at
        count = self._counts[length]
        if not count:
            self._units[length] = ns / self._tempo
            self._counts[length] = 1
            self.longest = max(self.longest, length)
            return
        off = ns / (self._units[length] * self._tempo) - 1
        # One step that takes so much longer was disturbed; a second one tells of a change.
        disturbed, self._disturbed = off > HEARD and not self._disturbed, off > HEARD
        off = 0.0 if disturbed else min(max(off, -HEARD), HEARD)
        if self._first:
            self._first -= 1
            self._tempo *= 1 + FOLLOWED_FIRST * off
        elif self._run <= FRESH:
            # What disturbs a step makes it longer, so of two times the shorter one is taken.
            self._units[length] *= 1 + (off if count == 1 and off < 0 else off / (count + 1))
            self._counts[length] = min(count + 1, KEPT)
        else:
            self._tempo *= 1 + FOLLOWED * off

    def known(self, length: int) -> bool:
        """Whether a step of this length was ever timed."""
        return self._counts[length] > 0

    def age(self, length: int, at: int) -> int:
        """Steps since a step of this length was timed."""
        return at - self._taken_at[length]

    def count(self, length: int) -> int:
        """How many steps of this length are behind its time, at most `KEPT`."""
        return self._counts[length]

    def of(self, length: int) -> float:
        """What a step of this length takes now; for a length not tried yet, the line of shorter ones.

        That line comes from the shorter ones, so it is the hopeful guess: a cliff further up (a backend whose kernel
        takes so many columns and no more) is known when it was met, and not held against the lengths before it.
        """
        return self._tempo * (self._units[length] if self._counts[length] else self._guess(length))

    def _guess(self, length: int) -> float:
        units = self._units
        known = [at for at, count in enumerate(self._counts) if count]
        left = max((at for at in known if at < length), default=None)
        right = min((at for at in known if at > length), default=None)
        if left is None:
            return 0.0 if right is None else units[right]
        # The first drafted token changes the kind of the work, so the way from 0 to 1 foretells nothing.
        before = min((at for at in known if 0 < at < left), default=None)
        slope = 0.0 if before is None else max((units[left] - units[before]) / (left - before), 0.0)
        guess = units[left] + (length - left) * slope
        return guess if right is None else min(guess, units[right])

    def forget(self) -> None:
        """Another text, which may stand at another depth: what is known counts for a few times only."""
        self._counts = [min(count, KEPT_OVER) for count in self._counts]
        self._first = FIRST if self._tempo else 0
        self._taken_at = [0] * len(self._taken_at)


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
