"""How long drafts survive, learnt as a text goes on from what became of them."""

from __future__ import annotations

# What is left of a position's counts after a step whose draft was too short for it: so a length that did not pay is
# tried again, once in a hundred steps or two.
UNSEEN = 0.99


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

    def begin(self, most: float) -> None:
        """Another text: what was seen of each position is worth no more than `most` observations from now on."""
        shares = [min(1.0, most / count) if count else 1.0 for count in self._reached]
        self._reached = [share * count for share, count in zip(shares, self._reached, strict=True)]
        self._held = [share * count for share, count in zip(shares, self._held, strict=True)]

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
