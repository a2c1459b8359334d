"""How long the next draft is to be: the length that gives most tokens per second here and now, 0 included.

The decision alone, without clock or I/O: `Control.choose` says how many tokens to draft, `Control.told` hears what came
of it and how long it took. So a recorded trace drives it as well as a model does.

A step with a draft of n gives E(n) = 1 + s_1 + … + s_n tokens, s_k the chance that the first k are all accepted, and
takes T(n); the best n has the largest E(n) / T(n). Both are learnt on the way (`costs`, `survivors`).

What finding out may cost is bounded (`account`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from llamacpp_tools.engine.account import EVERY, Account, Terms
from llamacpp_tools.engine.costs import Costs
from llamacpp_tools.engine.survivors import Survivors


class Why(IntEnum):
    """Why a step had the draft length that it had."""

    CALIBRATE = 0
    BEST = 1
    PROBE = 2
    CLIMB = 3
    REFRESH = 4
    EMPTY = 5


# In words, for a result's reader.
REASONS = {
    Why.CALIBRATE: "plain steps timed at the start",
    Why.BEST: "the best length by what was known",
    Why.PROBE: "whether a draft survives now",
    Why.CLIMB: "a longer draft timed for the first time",
    Why.REFRESH: "a length timed again",
    Why.EMPTY: "nothing left to spend on drafts",
}


class Chooser(Protocol):
    """Whoever says how long the next draft is to be: `Control`, or the same in C++ (`native_control`)."""

    @property
    def why(self) -> int:
        """Why the length was chosen that `choose` gave last (`Why`)."""

    @property
    def catch_up(self) -> int:
        """Tokens that the next draft catches up with, at most, after steps without one."""

    def begin(self) -> None:
        """A new text."""

    def choose(self) -> int:
        """Tokens to draft in the next step."""

    def told(self, drafted: int, accepted: int, draft_ns: int, verify_ns: int) -> None:
        """What the step did that `choose` was asked for."""


@dataclass(frozen=True)
class Settings:
    """What a controller is made with.

    Attributes:
        terms: what finding out may cost.
        reserve: plain steps that trying a length leaves on the account.
        margin: a length is left for one that promises more than this share above it.
        doubt: drafts are given up only for plain steps that promise more than this share above them: what drafting on
            may lose is bounded, what giving up too early loses is not.
        memory: drafts that the chances rest on.
        former: drafts that what was seen in former texts is worth in a new one.
        fading: what is left of the evidence after one plain token.
        probe: drafts of a probe, at most; it ends as soon as it says something.
        nearest, furthest: tokens from one probe to the next: doubled after each that found nothing.
        catch_up: plain steps that catching up before a draft may take. Of more tokens than that, and than a few, the
            MTP block never sees the older ones.
        gaps: whether it may be so, as positions may be left out.
        refresh: steps after which the plain step is timed again, if it is as good as the best length; later, the
            further it is behind, and sooner where it was timed a few times only. What steps that only take times take
            beyond those of the best length stays below `terms.share` of the time as well.
    """

    terms: Terms = field(default_factory=Terms)
    reserve: float = 3.0
    margin: float = 0.01
    doubt: float = 0.06
    memory: float = 48.0
    former: float = 2.0
    fading: float = 0.985
    probe: int = 8
    nearest: int = 16
    furthest: int = 96
    catch_up: float = 1.0
    gaps: bool = True
    refresh: int = 200


# The first step of a length pays for the change (a new graph, pairs that the MTP block has to catch up with); the next
# one is timed, and more if the length is kept.
_BURST = 2
# A length that was timed before is timed for more: a change slows the steps after it as well, so it is what costs.
_BURST_AGAIN, _LONG_AGAIN = 3, 8
# A length that is worse by no more than this share, and longer or shorter by no more than so many tokens, is timed for
# more steps at once: they cost little.
_NEAR, _BESIDE = 0.1, 2
# So many drafts are few: a text that has had no more may turn out otherwise.
_FEW = 4.0
# A length is timed again where it would be the best if it cost so many standard deviations less than is known: as many
# for each step since it was timed, divided by how often it was, up to `_SURE`. If it never was, so many, and a few more
# with each step: what others foretell of it may rest on a slow moment of theirs.
_BOLD, _SURE = 0.006, 24
_BOLD_FIRST, _BOLD_WAITING = 0.8, 0.002
# The plain step's time is wanted anew the later the further it is behind the best: this share is one more wait. And
# soon, after so many steps, if it is behind by fewer standard deviations than that: beside first steps that were slow
# all drafts would seem to pay.
_BEHIND, _CERTAIN, _SOON = 0.1, 3.0, 16
# Plain steps to begin with; all but one are timed.
_FIRST_STEPS = 4
# Steps with a draft before the length is thought over again: thinking takes time as well.
_STEADY = 4
# The first drafted token's chance while nothing is known of it, and how many drafts that guess is worth.
_FIRST, _FIRST_WEIGHT = 0.7, 1.0
# A drafted token's chance where drafts pay just so: a probe has the length that is best then.
_HOPED = 0.6
# Misses that a probe is allowed beyond the usual ones, one for each plain step that catching up took, at most.
_PATIENT = 3


class Control:
    """Chooses the draft length of each step of one sequence.

    Ask `choose`, then say `told`, once a step.
    """

    def __init__(self, limit: int, settings: Settings | None = None) -> None:
        """Nothing is known.

        Args:
            limit: the longest draft, in tokens, at least 1.
            settings: None for the defaults.
        """
        self.limit = limit
        self.settings = settings or Settings()
        self._costs = Costs(limit)
        self._account = Account(self.settings.terms, self._costs)
        self._survivors = Survivors(limit, self.settings.memory, _FIRST, _FIRST_WEIGHT)
        self.begin()

    def begin(self) -> None:
        """A new text: what steps cost is kept until it is measured anew, how drafts survive is but a first guess."""
        settings = self.settings
        self._costs.forget()
        self._survivors.begin(settings.former)
        self._now = 0
        self._before = -1
        self._trial, self._left, self._missed, self._misses = 0, 0, 0, 2
        self._why = Why.CALIBRATE
        self._spacing = 0
        self._steps = self._plain = self._behind = 0
        self._account.begin()
        self._curiosity = self._pace = self._change = 0.0
        self._probed = self._refused = False

    @property
    def why(self) -> Why:
        """Why the length was chosen that `choose` gave last."""
        return self._why

    @property
    def catch_up(self) -> int:
        """Tokens that the next draft catches up with, at most, after steps without one: all where that is cheap."""
        settings = self.settings
        if not settings.gaps:
            return EVERY
        return self._account.catch_up(settings.catch_up, settings.nearest)

    def choose(self) -> int:
        """Tokens to draft in the next step, 0 to `limit`."""
        if self._left > 0 and (self._account.may(self._trial) or self._untimed()):
            self._left -= 1
            return self._trial
        self._left = 0
        self._costs.settle()
        if self._costs.count(0) < _FIRST_STEPS - 1:
            return self._try(0, _FIRST_STEPS, Why.CALIBRATE)
        return self._drafting() if self._now else self._not_drafting()

    def told(self, drafted: int, accepted: int, draft_ns: int, verify_ns: int) -> None:
        """What the step did that `choose` was asked for.

        Args:
            drafted: tokens drafted; may be fewer than was chosen where the text was to end.
            accepted: of these.
            draft_ns: time that the draft took, catching up included; without a draft 0, or what catching up with all
                took, as no more could wait.
            verify_ns: the rest of the step's time.
        """
        costs, ns = self._costs, draft_ns + verify_ns
        self._steps += 1
        settled = drafted == self._before
        if not settled and costs.known(drafted):
            # What a change of length takes: a new graph; the median of a few would be as good as their mean is.
            over = min(max(verify_ns - costs.of(drafted), 0.0), costs.of(drafted))
            self._change += (over - self._change) / 4
        self._before = drafted
        if costs.known(0):
            self._book(drafted, accepted, draft_ns, ns, settled)
        if settled:
            costs.add(drafted, ns if drafted else verify_ns, self._steps)
        if drafted == 0:
            self._plain += 1
            self._behind = 0 if draft_ns else self._behind + 1
            return
        self._catch_up_evidence()
        self._survivors.add(drafted, accepted)
        self._refused |= accepted == 0
        if self._why is Why.PROBE and self._left:
            self._missed += accepted == 0
            enough = self._missed >= self._misses or (self._missed == 0 and self._probe_steps() >= _BURST)
            if enough and costs.known(drafted):
                self._left = 0

    def _untimed(self) -> bool:
        """Whether a probe has yet to time a step: by its first one, which caught up, its length's cost is not known."""
        return self._why is Why.PROBE and self._probe_steps() < _BURST

    def _probe_steps(self) -> int:
        return self.settings.probe - self._left

    def _catch_up_evidence(self) -> None:
        if self._plain:
            self._survivors.fade(self.settings.fading**self._plain)
            self._plain = self._behind = 0

    def _book(self, drafted: int, accepted: int, draft_ns: int, ns: int, settled: bool) -> None:
        costs, probing = self._costs, self._why is Why.PROBE
        waited = min(self._behind, self.catch_up)
        if not self._account.opened:
            self._curiosity = costs.of(0)
        self._curiosity += self.settings.terms.share * ns
        if self._why is Why.REFRESH:
            # The way back is a change as well.
            self._curiosity -= self._change / _BURST
            self._curiosity -= ns - (accepted + 1) * self._pace
        self._account.book(
            drafted, accepted, ns, settled=settled, waited=waited, probing=probing, draft_ns=draft_ns
        )
        if probing and drafted and waited and costs.known(drafted):
            over = self._account.caught_up(drafted, ns, waited)
            # And not to end at the first miss if that would be the least of it.
            self._misses += int(min(max(over, 0.0), _PATIENT))

    def _try(self, length: int, steps: int, why: Why) -> int:
        self._trial, self._left, self._why = length, steps - 1, why
        self._missed = 0
        return length

    def _stay(self, length: int, why: Why = Why.BEST) -> int:
        self._now, self._why = length, why
        return length

    def _not_drafting(self) -> int:
        settings, costs = self.settings, self._costs
        if self._probed:
            # A probe has just ended.
            self._probed = False
            expected = self._survivors.expected()
            self._pace = costs.of(0)
            best = self._best(0, expected)
            if best or self._hoped(0, expected):
                self._spacing = settings.nearest
                self._now = best or 1
                return self._drafting()
            self._spacing = min(max(2 * self._spacing, settings.nearest), settings.furthest)
        account = self._account.left
        length = self._to_probe()
        first = not costs.known(length)
        # The text's first probe has nothing to catch up with: a miss more is cheapest there.
        self._misses = 2 if first or not self._spacing else 1
        # What a probe that finds nothing takes beyond plain steps.
        price = self._misses * (costs.of(0) if first else max(costs.of(length) - costs.of(0), 0.0))
        # Nor is the block to catch up with more than usually lies between two probes for nothing.
        waited = min(self._behind, self.catch_up)
        price += self._account.catching_up(waited - settings.furthest) * costs.of(0)
        waits = self._plain < self._spacing
        back = not waits and account < price and self._account.may_return(price, self._survivors.expected())
        if account <= 0 and not back:
            return self._stay(0, Why.EMPTY)
        if waits or (account < price and not back):
            return self._stay(0)
        if back:
            self._account.returned()
        self._probed = True
        return self._try(length, settings.probe, Why.PROBE)

    def _to_probe(self) -> int:
        """The length that would pay best where drafts pay just so: of those that were timed, as one never timed may
        cost anything.

        Where no draft was ever refused it is what they seem to take that ended them: then a longer one as well, as one
        slow moment may have spoilt the times of the others.
        """
        costs, every = self._costs, range(1, self.limit + 1)
        timed = [n for n in every if costs.known(n)]
        lengths = timed if self._refused or not timed else every[: self._reach()]
        return max(lengths, key=lambda n: (1 - _HOPED ** (n + 1)) / (1 - _HOPED) / costs.of(n), default=1)

    def _drafting(self) -> int:
        settings, costs = self.settings, self._costs
        expected = self._survivors.expected()
        best = self._best(self._now, expected)
        if not self._account.may(best):
            self._account.lend(best, expected)
        if not self._account.may(best):
            self._spacing = settings.nearest
            return self._stay(0, Why.EMPTY)
        if best == 0:
            self._spacing = settings.nearest
            return self._stay(0)
        former, self._now = self._now, best
        self._pace = costs.of(best) / expected[best]
        if best != former and costs.count(best) <= _STEADY and self._curiosity > 0:
            # It was timed once, and the machine may just have become faster: the one it replaces tells.
            return self._try(former, self._steps_of(former, expected), Why.REFRESH)
        hoped = self._hoped(best, expected)
        if hoped:
            why = Why.REFRESH if costs.known(hoped) else Why.CLIMB
            return self._try(hoped, self._steps_of(hoped, expected), why)
        if self._plain_is_old():
            return self._try(0, _STEADY, Why.REFRESH)
        return self._try(best, _STEADY, Why.BEST)

    def _steps_of(self, length: int, expected: list[float]) -> int:
        """Steps of a trial: one time says little, and of a length that is near the best one by all that is known, and
        beside it, more cost little. To time a length once more takes two changes: it is to be worth them.
        """
        near = self._costs.of(length) / expected[length] < (1 + _NEAR) * self._pace
        long = near and abs(length - self._now) <= _BESIDE
        if self._costs.count(length) > _STEADY:
            return _LONG_AGAIN if long else _BURST_AGAIN
        return _STEADY if long else _BURST

    def _plain_is_old(self) -> bool:
        """Whether the plain step is to be timed again, as all that is lost or gained is told by it."""
        costs = self._costs
        over = max(costs.of(0) / self._pace, 1.0)
        wait = self.settings.refresh * (1 + (over - 1) / _BEHIND) * min(costs.count(0) / _SURE, 1.0)
        if math.log(over) < _CERTAIN * costs.unsure(self._now)[0]:
            wait = min(wait, _SOON)
        return self._curiosity > 0 and costs.age(0, self._steps) > wait

    def _reach(self) -> int:
        """The longest draft to try: a little above the longest one known, as how dear it is, nobody has seen."""
        return min(self._costs.longest + _BESIDE, self.limit)

    def _hoped(self, best: int, expected: list[float]) -> int:
        """The length that may well be better than the best, as its cost is not known for certain, and is worth most
        then; 0 if there is none, or not enough is left to find out.
        """
        settings, costs, account, reach = self.settings, self._costs, self._account.left, self._reach()
        if self._curiosity <= 0 and all(map(costs.known, range(1, reach + 1))):
            return 0
        seen, unsure = self._survivors.weight(), costs.unsure(best)
        found, most = 0, 1.0
        for length in range(1, reach + 1):
            if length == best:
                continue
            cost = costs.of(length)
            count = min(costs.count(length), _SURE)
            age = costs.age(length, self._steps)
            bold = _BOLD * age / count if count else _BOLD_FIRST + _BOLD_WAITING * age
            promise = expected[length] / cost * self._pace * math.exp(bold * unsure[length])
            if promise <= most:
                continue
            # It may turn out dearer than is known, and fewer drafts may survive.
            tokens = 1 + (expected[length] - 1) * seen / (seen + _FEW)
            lost = cost * math.exp(unsure[length]) - tokens * costs.of(0)
            price = self._steps_of(length, expected) * lost + 2 * self._change
            price += settings.reserve * costs.of(0)
            if account > price and (self._curiosity > 0 or not count):
                found, most = length, promise
        return found

    def _best(self, now: int, expected: list[float]) -> int:
        """The length with most tokens per second of those that were timed; `now`, if none is better by the margin."""
        costs = self._costs
        rates = costs.rates(expected)
        best = max(range(len(rates)), key=rates.__getitem__)
        margin = self.settings.doubt if best == 0 else self.settings.margin
        # A change has to pay for itself within as many steps as the evidence rests on.
        margin += self._change / costs.of(best) / self.settings.memory if costs.known(now) else 0.0
        return best if rates[best] > (1 + margin) * rates[now] else now
