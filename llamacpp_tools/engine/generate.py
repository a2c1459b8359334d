"""Generating from a decoder: tokens, the time of every step, drafted and accepted per position."""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llamacpp_tools.engine.control import Chooser
from llamacpp_tools.engine.decode import BY_AGREEMENT, Decoder, Tick
from llamacpp_tools.engine.native_control import NativeControl

TICK_NS = 50_000_000


@dataclass(frozen=True)
class Filled:
    """A prompt that stands in the caches.

    Attributes:
        n_prompt: its tokens; generation goes on at this position.
        token: the token chosen after it.
        prefill_ns: time of the prefill that put it there, until `token` was known.
    """

    n_prompt: int
    token: int
    prefill_ns: int


@dataclass(frozen=True)
class Generation:
    """One generation.

    Attributes:
        tokens: every token generated; the first comes from the prefill and cost no step.
        prefill_ns: time of the prefill, until its next token was known.
        step_ns: time of each decode step, in order.
        n_max: the longest draft that was allowed; 0 without MTP.
        step_drafted, step_accepted: tokens drafted and accepted in each step; empty without MTP.
        step_draft_ns: of each step's time, what the draft took; empty without MTP.
        ties: positions in `tokens` where another token was as likely (`decode.TIE`); empty with MTP.
        step_why: why each step drafted so many tokens (`control.Why`); empty without a controller.
    """

    tokens: tuple[int, ...]
    prefill_ns: int
    step_ns: tuple[int, ...]
    n_max: int = 0
    step_drafted: tuple[int, ...] = ()
    step_accepted: tuple[int, ...] = ()
    step_draft_ns: tuple[int, ...] = ()
    step_why: tuple[int, ...] = ()
    ties: tuple[int, ...] = ()

    @property
    def decode_ns(self) -> int:
        """Time of all steps together."""
        return sum(self.step_ns)

    @property
    def drafted(self) -> tuple[int, ...]:
        """Per draft position (0 is the next token), how often a token was drafted there."""
        return _by_position(self.step_drafted, self.n_max)

    @property
    def accepted(self) -> tuple[int, ...]:
        """Per draft position, how often the token there was accepted."""
        return _by_position(self.step_accepted, self.n_max)

    @property
    def n_stepped(self) -> int:
        """Tokens that the timed steps produced."""
        return len(self.tokens) - 1


def fill(decoder: Decoder, prompt: Sequence[int], tick: Tick | None = None) -> Filled:
    """Forget all, prefill `prompt` (token ids, at least one) and take the time.

    Args:
        decoder: plain or MTP.
        prompt: token ids, at least one.
        tick: called with (tokens done, tokens in all).

    Raises:
        LltError: a decode failed.
    """
    begun = time.perf_counter_ns()
    token = decoder.prefill(prompt, tick)
    return Filled(len(prompt), token, time.perf_counter_ns() - begun)


@dataclass(frozen=True)
class Limits:
    """When a generation ends, and how much is drafted on the way.

    Attributes:
        n_predict: tokens to generate, at least one; the last draft is cut so that no more come out, as llama-server
            does.
        n_max: the longest draft; 0 without MTP.
        ends: tokens that end the text; such a token is the last one.
        accepts: drafted tokens to accept in each step, whatever the target says, again from the start when it is
            through; empty for those that the target agrees with.
        drafts: the longest draft of each step, none above `n_max`, again from the start when it is through; empty for
            `n_max` each time.
        runs: for each token, how many of those drafted after it are accepted, whatever the target says, in place of
            `accepts`: a text that is made up (`rehearsal.made_up`), at what real steps take; empty for none.
    """

    n_predict: int
    n_max: int = 0
    ends: frozenset[int] = frozenset()
    accepts: tuple[int, ...] = ()
    drafts: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()


class Run:
    """A generation under way: iterate over it, once, for the tokens of each step; `done` is what came of it.

    Only the steps are timed, a controller's work with them, so whoever iterates may take as long as they like.
    """

    def __init__(
        self, decoder: Decoder, filled: Filled, limits: Limits, ffi: Any, control: Chooser | None = None
    ) -> None:
        """Nothing is decoded yet.

        Args:
            decoder: plain or MTP, with the prompt in its caches.
            filled: what stands there.
            limits: when it ends.
            ffi: of the library that the decoder runs on.
            control: chooses the length of each draft, up to `limits.n_max`; None for that length or the schedule's.
        """
        self._control = control
        self._decoder = decoder
        self._filled = filled
        self._limits = limits
        self._ffi = ffi
        self._tokens = [filled.token]
        self._step_ns: list[int] = []
        self._drafted: list[int] = []
        self._accepted: list[int] = []
        self._draft_ns: list[int] = []
        self._why: list[int] = []
        self._ties: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        """The tokens of each step, the first being the one that the prefill gave.

        Raises:
            LltError: a decode failed.
        """
        limits, clock, unpack = self._limits, time.perf_counter_ns, self._ffi.unpack
        decode, tokens, ends = self._decoder.step, self._tokens, limits.ends
        drafting, runs = limits.n_max > 0, limits.runs
        out = self._ffi.new("llama_token[]", limits.n_max + 1)
        forced = itertools.cycle(limits.accepts or (BY_AGREEMENT,))
        schedule = itertools.cycle(limits.drafts or (limits.n_max,))
        control, why = self._control, self._why
        native = control if isinstance(control, NativeControl) else None
        beside = None if native is not None else control
        choose = schedule.__next__ if beside is None else beside.choose
        pos = self._filled.n_prompt
        yield tokens[:1]
        while len(tokens) < limits.n_predict and tokens[-1] not in ends:
            n_forced = runs[len(tokens) - 1] if runs else next(forced)
            at = clock()
            n_max = min(choose(), limits.n_predict - len(tokens) - 1)
            step = decode(tokens[-1], pos, out, n_max, n_forced, native)
            if beside is not None:
                step.why = beside.why
                beside.told(step.n_drafted, step.n_accepted, step.draft_ns, step.verify_ns)
            self._step_ns.append(clock() - at)
            made = unpack(out, step.n_tokens)
            pos += step.n_tokens
            if step.tied:
                self._ties.append(len(tokens))
            # A verified draft can run past the token that ends the text.
            if ends and not ends.isdisjoint(made):
                made = made[: next(index for index, token in enumerate(made) if token in ends) + 1]
            tokens.extend(made)
            if control is not None:
                why.append(step.why)
            if drafting:
                self._drafted.append(step.n_drafted)
                self._accepted.append(step.n_accepted)
                self._draft_ns.append(step.draft_ns)
            yield made

    @property
    def done(self) -> Generation:
        """What was generated so far."""
        return Generation(
            tuple(self._tokens),
            self._filled.prefill_ns,
            tuple(self._step_ns),
            self._limits.n_max,
            tuple(self._drafted),
            tuple(self._accepted),
            tuple(self._draft_ns),
            tuple(self._why),
            tuple(self._ties),
        )


def go_on(
    decoder: Decoder,
    filled: Filled,
    limits: Limits,
    ffi: Any,
    tick: Callable[[int], None] | None = None,
    control: Chooser | None = None,
) -> Generation:
    """Generate after what stands in the caches.

    Args:
        decoder: plain or MTP.
        filled: what stands in the decoder's caches.
        limits: when it ends.
        ffi: of the library that the decoder runs on.
        tick: called with the tokens generated so far, about every 50 ms, between two steps.
        control: chooses the length of each draft; None for that of `limits`.

    Raises:
        LltError: a decode failed.
    """
    clock, count = time.perf_counter_ns, 0
    run = Run(decoder, filled, limits, ffi, control)
    next_tick = clock() + TICK_NS
    with _uncollected():
        for made in run:
            count += len(made)
            if tick and clock() > next_tick:
                tick(count)
                next_tick = clock() + TICK_NS
    return run.done


def _by_position(counts: Sequence[int], n_max: int) -> tuple[int, ...]:
    return tuple(sum(count > position for count in counts) for position in range(n_max))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    # The loop's small lists set off the cyclic collector, which has nothing to find here and takes milliseconds of a
    # step. (A stream's loop belongs to its user, whose objects it may have to collect.)
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
