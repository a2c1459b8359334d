"""A controller at work on a recorded text, on a machine of known costs: no model, no clock, the same every time.

What a draft would have had accepted at each token (`trace.Trace.runs`) is all that a controller's world is made of,
beside what steps cost; so it can be held against every fixed length on the very same text.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llamacpp_tools.engine.control import Chooser
from llamacpp_tools.engine.profile import PASSES, Turns, passes

# Plain steps for which a machine stays as fast as it is.
_TURN = 60


@dataclass(frozen=True)
class Machine:
    """What a step takes.

    Attributes:
        step_ms: of a step with a draft of 0, 1, … tokens.
        draft: of that, what one drafted token takes, as a share of a step without a draft.
        catch_up: what each pair takes that the MTP block has to catch up with, as a share of that step as well.
        change: what the first step of another length takes longer, as a share of itself.
        noise: standard deviation of the logarithm of a step's time.
        slow: by turns the machine is as fast as told, and slower by this share.
        cold: first steps that take twice as long, as those of a process do.
        moods: chance that with a step the machine's pace is drawn anew: as told, or half of that.
        stalls: chance that a step takes three times as long.
    """

    step_ms: tuple[float, ...]
    draft: float = 0.1
    catch_up: float = 0.003
    change: float = 0.03
    noise: float = 0.0
    slow: float = 0.0
    cold: int = 0
    moods: float = 0.0
    stalls: float = 0.0

    @property
    def limit(self) -> int:
        """The longest draft whose cost is given."""
        return len(self.step_ms) - 1


@dataclass(frozen=True)
class Rehearsal:
    """How it went.

    Attributes:
        n_tokens: generated.
        ms: the time they took.
        time_share: part of the time by draft length.
        quiet_ms: the time they would have taken on a machine that has no moods and never stalls.
    """

    n_tokens: int
    ms: float
    time_share: dict[int, float]
    quiet_ms: float

    @property
    def tps(self) -> float:
        """Tokens per second."""
        return 1e3 * self.n_tokens / self.ms


def rehearse(
    steering: Chooser | int, runs: Sequence[int], machine: Machine, seed: int = 0, most: int | None = None
) -> Rehearsal:
    """Generate the text that `runs` tells of.

    Args:
        steering: a controller that is to begin with this text, or a draft length that stays.
        runs: for each token, how many drafted after it would be accepted.
        machine: what steps cost.
        seed: of the noise.
        most: steps to take; None for as many as the text has.
    """
    rng = random.Random(seed)
    plain = machine.step_ms[0]
    shares: Counter[int] = Counter()
    at = waiting = n_tokens = n_steps = 0
    before: int | None = None
    mood, quiet_ms = 1, 0.0
    while at < len(runs) and n_steps != most:
        length = steering if isinstance(steering, int) else steering.choose()
        accepted = min(length, runs[at])
        draft = length * machine.draft * plain
        verify = machine.step_ms[length] - draft
        if machine.noise:
            verify *= math.exp(rng.gauss(0, machine.noise))
        if before not in (None, length):
            verify *= 1 + machine.change
        if machine.slow:
            # A turn is as long for every length: it is the clock's, not the text's.
            pace = 1 + machine.slow * (int(sum(shares.values()) / 1e6 / plain / _TURN) % 2)
            draft, verify = draft * pace, verify * pace
        if n_steps < machine.cold:
            draft, verify = 2 * draft, 2 * verify
        n_steps += 1
        before = length
        if length:
            # The block never sees the older ones.
            seen = waiting if isinstance(steering, int) else min(waiting, steering.catch_up)
            draft += seen * machine.catch_up * plain
            waiting = 0
        else:
            waiting += 1
        quiet_ms += draft + verify
        if machine.moods and rng.random() < machine.moods:
            mood = rng.choice((1, 2))
        pace = mood * (3 if machine.stalls and rng.random() < machine.stalls else 1)
        draft_ns, verify_ns = round(pace * draft * 1e6), round(pace * verify * 1e6)
        shares[length] += draft_ns + verify_ns
        n_tokens += accepted + 1
        at += accepted + 1
        if not isinstance(steering, int):
            steering.told(length, accepted, draft_ns, verify_ns)
    ns = sum(shares.values())
    share = {length: part / ns for length, part in sorted(shares.items())}
    return Rehearsal(n_tokens, ns / 1e6, share, quiet_ms)


def profiled(control: Chooser, runs: Sequence[int], machine: Machine, seed: int = 0) -> None:
    """Let a controller hear what every length takes, as before a first text (`profile.profile`).

    Args:
        control: knows what lengths cost afterwards, and begins a text.
        runs: a text that no pass comes to the end of (`profile.room`).
        machine: what steps cost.
        seed: of the noise.
    """
    control.begin()
    for number, lengths in enumerate(passes(machine.limit)):
        rehearse(Turns(control, lengths), runs, machine, PASSES * seed + number, len(lengths))
    control.begin()


def made_up(chance: Callable[[int, int], float], n: int, seed: int, limit: int = 16) -> list[int]:
    """A text that nobody wrote: for each of `n` tokens how many drafted after it would be accepted.

    Args:
        chance: that a draft is accepted, by token and by position in the draft (from 0), if those before it were.
        n: its tokens.
        seed: which text.
        limit: the longest draft.
    """
    rng = random.Random(seed)
    found = []
    for token in range(n):
        run = 0
        while run < limit and rng.random() < chance(token, run):
            run += 1
        found.append(run)
    return found


def best_fixed(runs: Sequence[int], machine: Machine, seed: int = 0) -> tuple[int, Rehearsal]:
    """The draft length that is fastest on this text, known afterwards, 0 among them."""
    each = {length: rehearse(length, runs, machine, seed) for length in range(machine.limit + 1)}
    best = max(each, key=lambda length: each[length].tps)
    return best, each[best]
