"""What finding out may cost: the account that drafts are paid from.

It begins with the time of a few plain steps, earns a small share of all time that passes, and pays for what a step of
its length takes beyond the plain steps of the same tokens (a step that is faster pays in, up to a bound). While it is
empty nothing new is tried, and once it is overdrawn by a plain step no step is taken that may cost more than one. Only
where drafts pay by all that is known they may lose a few plain steps more before they are given up, and not again until
the account is filled: what is not drafted pays nothing back. Where they nearly paid, one early probe may overdraw it as
well. So whatever the text does, the time lost against plain decode is never more than that share of it, those few
steps, and the one that overdrew: by what steps usually take, as a moment in which the machine is slow or stalls is no
draft's fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.engine.costs import Costs


@dataclass(frozen=True)
class Terms:
    """What an account is kept by.

    Attributes:
        share: part of the time that drafts may lose against plain decode.
        allowance: plain steps that they may lose beside that.
        credit: plain steps by which the account may be overdrawn; nothing new is tried meanwhile.
        loan: plain steps that drafts which pay by what is known may lose beyond that, once until the account is filled
            again; so may a probe after what catching up took.
        back: plain steps that one probe may overdraw the account by, beyond the credit, once until it is filled again,
            where drafts that were given up nearly paid: the longer it waits, the more there is to catch up with.
        most: plain steps that earlier gains are good for.
    """

    share: float = 0.01
    allowance: float = 3.0
    credit: float = 1.0
    loan: float = 4.0
    back: float = 2.0
    most: float = 50.0


# Times of a length by which it is known what it takes; with fewer it may be dearer than it seems.
_FEW, _KNOWN = 2, 4
# Drafts that were given up nearly paid if they gave this share of plain decode's tokens per second by what is known.
_NEARLY = 0.9
# A step that takes longer than this many times its length's own time was disturbed.
_DISTURBED = 2.0
# Tokens that what catching up takes is known by, and the part of a plain step that a probe's first step may take
# longer for other reasons.
_CATCHING_MEMORY, _NO_NEWS = 512, 0.5
# What the MTP block needs to catch up with a token that was generated without it, at most, in plain steps.
_CAUGHT_UP = 0.1
# Tokens that are caught up with whatever that takes, and by how many it is known what any number of them takes.
_LEAST_CAUGHT_UP, _CAUGHT_UP_KNOWN = 8, 64
# Tokens; more than any context holds.
EVERY = 2**30


class Account:
    """What drafts have won and lost against plain decode in one text, in ns, and what may be spent on them now.

    Drafts of a sequence that was decoded without them begin with catching up: the MTP block is to decode the tokens
    that it missed. What that takes for a token is learnt here as well.
    """

    def __init__(self, terms: Terms, costs: Costs) -> None:
        """Nothing is on it, and what catching up takes is not known.

        Args:
            terms: what it is kept by.
            costs: what steps take; read here, fed elsewhere.
        """
        self._terms, self._costs = terms, costs
        # What catching up took beyond a step's usual time, in plain steps, and the tokens that it was for.
        self._caught_up = self._caught_up_with = 0.0
        self.begin()

    def begin(self) -> None:
        """A new text: what was won and lost is forgotten, what catching up takes is not."""
        self._ns: float | None = None
        self._lent_at: float | None = None
        self._returned = False

    @property
    def opened(self) -> bool:
        """Whether a step of this text was booked."""
        return self._ns is not None

    @property
    def left(self) -> float:
        """What is on it, in ns; below 0 where it is overdrawn."""
        return self._ns or 0.0

    def book(
        self,
        drafted: int,
        accepted: int,
        ns: int,
        *,
        settled: bool,
        waited: int,
        probing: bool,
        draft_ns: int = 0,
    ) -> None:
        """A step; what a plain one takes is to be known.

        Args:
            drafted: tokens drafted.
            accepted: of these.
            ns: time that the step took.
            settled: whether the step before it had the same length.
            waited: tokens generated without the MTP block since it last caught up.
            probing: whether the step was a probe's.
            draft_ns: of `ns`, what the draft took; without one 0, or what catching up took, as no more could wait.
        """
        terms, costs = self._terms, self._costs
        plain = costs.of(0)
        if self._ns is None:
            self._ns = terms.allowance * plain
        if drafted and settled and costs.count(drafted) > _KNOWN:
            # How fast the machine is just now is nobody's fault: a slow moment would pass for a loss.
            lost = costs.of(drafted) - (accepted + 1) * plain
        elif drafted:
            lost = min(ns, self._at_most(drafted, waited)) - (accepted + 1) * plain
        else:
            lost = min(draft_ns, _CAUGHT_UP * waited * plain)
            if draft_ns:
                self._learn(lost / plain, waited)
        self._ns = min(self._ns + terms.share * ns - lost, terms.most * plain)
        if self._ns > 0:
            self._lent_at = None
            self._returned = False
        elif probing and drafted and waited and self._lent_at is None:
            # What catching up took is spent; the probe is to say what it was spent for.
            self._lent_at = self._ns

    def caught_up(self, drafted: int, ns: int, waited: int) -> float:
        """What catching up took in a probe's first step, in plain steps.

        Args:
            drafted: tokens drafted in it, above 0.
            ns: time that it took.
            waited: tokens that it caught up with, above 0.
        """
        costs = self._costs
        over = (min(ns, self._at_most(drafted, waited)) - costs.of(drafted)) / costs.of(0)
        self._learn(over - _NO_NEWS, waited)
        return over

    def _learn(self, steps: float, tokens: int) -> None:
        keep = 1 - min(tokens / _CATCHING_MEMORY, 1)
        self._caught_up = keep * self._caught_up + steps
        self._caught_up_with = keep * self._caught_up_with + tokens

    def catching_up(self, tokens: int) -> float:
        """Plain steps that catching up with so many tokens would take."""
        return max(tokens, 0) * (max(self._caught_up, 0.0) / max(self._caught_up_with, 1.0))

    def catch_up(self, steps: float, first: int) -> int:
        """Tokens to catch up with at once: as many as take so long, eight at least.

        While that is known by few, no more than twice as many as it is known by: after a long rest all that waits could
        take tens of plain steps.

        Args:
            steps: plain steps that it may take.
            first: tokens while nothing is known.
        """
        seen, each = self._caught_up_with, self.catching_up(1)
        pays_for = max(_LEAST_CAUGHT_UP, min(steps / each, EVERY)) if each > 0 else EVERY
        return int(pays_for if seen >= _CAUGHT_UP_KNOWN else min(pays_for, max(first, 2 * seen)))

    def may(self, length: int) -> bool:
        """Whether there is something left to spend on drafts of this length, or nothing to spend it on.

        What pays by all that is known may overdraw the account for a while, and what was begun be brought to its end.
        """
        terms, costs = self._terms, self._costs
        plain = costs.of(0)
        if length == 0 or self.left > -terms.credit * plain:
            return True
        # What was timed but a few times may be dearer than it seems.
        count = costs.count(length)
        lent = self._lent_at is not None and self.left > self._lent_at - terms.loan * plain
        return (count > _FEW and lent) or (count > _KNOWN and costs.of(length) <= plain)

    def lend(self, length: int, expected: Sequence[float]) -> None:
        """Drafts of this length would overdraw it: let them where they pay by what is known.

        Args:
            length: tokens drafted.
            expected: tokens that a step gives with drafts of 0, 1, … by what is known.
        """
        costs = self._costs
        pays = costs.count(length) > _FEW and expected[length] / costs.of(length) > 1 / costs.of(0)
        if self._lent_at is None and pays:
            self._lent_at = self._ns

    def may_return(self, price: float, expected: Sequence[float]) -> bool:
        """Whether a probe may be paid for with what is not on the account, as drafts given up nearly paid.

        Args:
            price: what the probe is to take at most, in ns.
            expected: as for `lend`.
        """
        terms, costs = self._terms, self._costs
        if self._ns is None or self._returned or self._lent_at is not None:
            return False
        most = (terms.credit + terms.back) * costs.of(0)
        plain, *drafts = costs.rates(expected)
        return self._ns - price > -most and max(drafts) > _NEARLY * plain

    def returned(self) -> None:
        """A probe was paid for so."""
        self._returned = True

    def _at_most(self, drafted: int, waited: int) -> float:
        # A stall is no draft's fault. A length timed but a few times may be dearer than it seems; and what the block
        # catches up with is known to take a part of a step for each token.
        costs = self._costs
        usual, plain = costs.of(drafted), costs.of(0)
        if costs.count(drafted) <= _KNOWN:
            usual = max(usual, (drafted + 1) * plain)
        return _DISTURBED * usual + _CAUGHT_UP * waited * plain
