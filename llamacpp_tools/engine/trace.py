"""What the MTP block would have drafted at every token of a plain text, and what any draft length makes of that.

The target decodes one token a step, so the text is that of plain decode, or one that is given. Before each step the
block drafts `lookahead` tokens, one after the other from its own hidden rows; they are noted and dropped. What it
drafts at a position depends on the text so far and not on how it was decoded. So a trace tells of every draft length
up to `lookahead` what a generation with it does, step by step (`replay`); but for rounding, as a verification decodes
several rows at once: where two drafts are as likely, one of them may fall another way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llamacpp_tools.engine.decode import MtpDecoder
from llamacpp_tools.engine.generate import TICK_NS, Filled, Generation


@dataclass(frozen=True)
class Trace:
    """A text and the drafts at each of its tokens.

    Attributes:
        made: the text, `n_predict + lookahead` tokens, so that every draft has an end to be held against. Its
            `step_drafted` and `step_accepted` tell of each position what was drafted and would have been accepted, up
            to the first that is wrong; the last `lookahead - 1` steps drafted nothing.
        predicted: for each of the first `n_predict` tokens, what was drafted after it; flat, `made.n_max` a token.
    """

    made: Generation
    predicted: tuple[int, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """For each position how many of its drafts would have been accepted."""
        return self.made.step_accepted[: len(self.predicted) // self.made.n_max]


def watch(
    decoder: MtpDecoder,
    filled: Filled,
    n_predict: int,
    lookahead: int,
    ffi: Any,
    tick: Callable[[int], None] | None = None,
    given: Sequence[int] = (),
) -> Trace:
    """Generate as plain decode does after what stands in the caches, and draft at each of `n_predict` tokens.

    Args:
        decoder: with room for drafts of `lookahead`.
        filled: what stands in its caches.
        n_predict: positions to draft at; `lookahead` more tokens are generated, to hold the last drafts against.
        lookahead: tokens to draft at each.
        ffi: of the library that the decoder runs on.
        tick: called with the tokens generated so far, about every 50 ms.
        given: a text of `n_predict + lookahead` tokens that is gone through in place of the one that the target would
            write: what the block drafts in it, and how much of that comes true; empty for the target's own.

    Raises:
        LltError: a decode failed.
    """
    clock, count = time.perf_counter_ns, n_predict + lookahead
    tokens = [given[0] if given else filled.token]
    step_ns: list[int] = []
    draft_ns: list[int] = []
    predicted: list[int] = []
    drafted, out = ffi.new("llama_token[]", lookahead), ffi.new("llama_token[]", 1)
    next_tick = clock() + TICK_NS
    for index in range(count - 1):
        wanted = lookahead if index < n_predict else 0
        at = clock()
        step = decoder.watch(tokens[-1], filled.n_prompt + index, wanted, drafted, out)
        now = clock()
        step_ns.append(now - at)
        draft_ns.append(step.draft_ns)
        predicted += ffi.unpack(drafted, wanted) if wanted else []
        tokens.append(given[index + 1] if given else out[0])
        if tick and now > next_tick:
            tick(len(tokens))
            next_tick = now + TICK_NS
    accepted = runs(tokens, predicted, lookahead)
    rest = [0] * (len(step_ns) - n_predict)
    made = Generation(
        tuple(tokens),
        filled.prefill_ns,
        tuple(step_ns),
        lookahead,
        tuple([lookahead] * n_predict + rest),
        tuple(accepted + rest),
        tuple(draft_ns),
    )
    return Trace(made, tuple(predicted))


def runs(tokens: Sequence[int], predicted: Sequence[int], lookahead: int) -> list[int]:
    """For each position how many of its drafts come true one after the other, 0 to `lookahead`.

    Args:
        tokens: the text; that of position 0 first.
        predicted: what was drafted after each position, flat, `lookahead` a position.
        lookahead: tokens drafted at each.
    """
    found = []
    for index in range(len(predicted) // lookahead):
        run = 0
        while run < lookahead and predicted[index * lookahead + run] == tokens[index + 1 + run]:
            run += 1
        found.append(run)
    return found


def agreed(tokens: Sequence[int], predicted: Sequence[int], lookahead: int) -> list[int]:
    """By lookahead, from the next token on: at how many positions the token drafted for there came true.

    Whatever became of the drafts before it, so no less than how often it would have been accepted. Arguments as `runs`.
    """
    return [
        sum(guess == tokens[index + 1 + ahead] for index, guess in enumerate(predicted[ahead::lookahead]))
        for ahead in range(lookahead)
    ]


@dataclass(frozen=True)
class Replay:
    """What a generation with a fixed draft length does.

    Attributes:
        drafted, accepted: of each step.
    """

    drafted: tuple[int, ...]
    accepted: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Draft-and-verify steps."""
        return len(self.drafted)

    @property
    def n_stepped(self) -> int:
        """Tokens that the steps produce: what is accepted, and the target's own one each."""
        return sum(self.accepted) + self.steps


def replay(runs: Sequence[int], n_max: int) -> Replay:
    """The steps of a generation of `len(runs)` tokens with drafts of `n_max`, from a trace.

    The first token comes from the prefill, and the last draft is cut so that no more tokens come out, as
    `generate.Run` does it.

    Args:
        runs: of a `Trace` with a lookahead of at least `n_max`.
        n_max: the draft's length, 0 for plain decode.
    """
    drafted: list[int] = []
    accepted: list[int] = []
    at, last = 0, len(runs) - 1
    while at < last:
        drafted.append(min(n_max, last - at - 1))
        accepted.append(min(runs[at], drafted[-1]))
        at += accepted[-1] + 1
    return Replay(tuple(drafted), tuple(accepted))
