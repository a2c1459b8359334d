"""Generating from a decoder: tokens, the time of every step, drafted and accepted per position."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llamacpp_tools.engine.decode import Decoder, Tick
from llamacpp_tools.engine.model import Model


@dataclass(frozen=True)
class Filled:
    """A prompt that stands in the caches.

    Attributes:
        n_prompt: its tokens; generation goes on at this position.
        token: the most likely token after it.
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
        decode_ns: time of all steps together.
        n_stepped: tokens that the steps produced, `len(tokens) - 1`.
        drafted, accepted: per draft position (0 is the next token), how often drafted and accepted.
        draft_ns, verify_ns: of `decode_ns`, spent drafting and verifying; 0 without MTP.
    """

    tokens: tuple[int, ...]
    prefill_ns: int
    step_ns: tuple[int, ...]
    decode_ns: int
    drafted: tuple[int, ...]
    accepted: tuple[int, ...]
    draft_ns: int
    verify_ns: int

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


def go_on(
    model: Model,
    decoder: Decoder,
    filled: Filled,
    n_predict: int,
    n_max: int = 0,
    ignore_eos: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Generation:
    """Generate `n_predict` tokens after what stands in the caches, fewer if the model ends the text.

    The last draft is cut so that no more than `n_predict` tokens come out, as llama-server does.

    Args:
        model: the model that the decoder runs on.
        decoder: plain or MTP.
        filled: what stands in the decoder's caches.
        n_predict: tokens to generate, at least one.
        n_max: the longest draft; 0 without MTP.
        ignore_eos: go on past an end-of-generation token (the decoder must ban them, too).
        tick: called with the tokens generated so far, about every 50 ms, between two steps.

    Raises:
        LltError: a decode failed.
    """
    clock = time.perf_counter_ns
    token = filled.token
    out = model.library.ffi.new("llama_token[]", n_max + 1)
    tokens = [token]
    step_ns: list[int] = []
    drafted, accepted = [0] * n_max, [0] * n_max
    draft_ns = verify_ns = 0
    ends = frozenset() if ignore_eos else frozenset(t for t in range(model.n_vocab) if model.is_end(t))
    pos = filled.n_prompt
    next_tick = clock() + 50_000_000
    while len(tokens) < n_predict and token not in ends:
        at = clock()
        step = decoder.step(token, pos, out, min(n_max, n_predict - len(tokens) - 1))
        now = clock()
        step_ns.append(now - at)
        count = step.n_tokens
        tokens.extend(out[0:count])
        for position in range(step.n_drafted):
            drafted[position] += 1
            accepted[position] += position < step.n_accepted
        draft_ns += step.draft_ns
        verify_ns += step.verify_ns
        pos += count
        token = tokens[-1]
        if now > next_tick and tick:
            tick(len(tokens))
            next_tick = clock() + 50_000_000
    if ends:
        tokens = _cut_after_end(tokens, ends)
    return Generation(
        tuple(tokens),
        filled.prefill_ns,
        tuple(step_ns),
        sum(step_ns),
        tuple(drafted),
        tuple(accepted),
        draft_ns,
        verify_ns,
    )


def _cut_after_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    # A verified draft can run past the token that ends the text.
    first = next((index for index, token in enumerate(tokens) if token in ends), None)
    return tokens if first is None else tokens[: first + 1]
