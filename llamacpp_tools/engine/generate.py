"""Generating from a decoder: tokens, the time of every step, drafted and accepted per position."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llamacpp_tools.engine.decode import Decoder, Tick
from llamacpp_tools.engine.model import Model


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


def generate(
    model: Model,
    decoder: Decoder,
    prompt: Sequence[int],
    n_predict: int,
    n_max: int = 0,
    ignore_eos: bool = False,
    prefill_tick: Tick | None = None,
    decode_tick: Callable[[int], None] | None = None,
) -> Generation:
    """Prefill `prompt` and generate `n_predict` tokens, fewer if the model ends the text.

    The last draft is cut so that no more than `n_predict` tokens come out, as llama-server does.

    Args:
        model: the model that the decoder runs on.
        decoder: plain or MTP.
        prompt: token ids, at least one.
        n_predict: tokens to generate, at least one.
        n_max: the longest draft; 0 without MTP.
        ignore_eos: go on past an end-of-generation token (the decoder must ban them, too).
        prefill_tick: called with (tokens done, tokens in all).
        decode_tick: called with the tokens generated so far, about every 50 ms, between two steps.

    Raises:
        LltError: a decode failed.
    """
    ffi = model.library.ffi
    clock = time.perf_counter_ns
    begun = clock()
    token = decoder.prefill(prompt, prefill_tick)
    prefill_ns = clock() - begun

    out = ffi.new("llama_token[]", n_max + 1)
    tokens = [token]
    step_ns: list[int] = []
    drafted, accepted = [0] * n_max, [0] * n_max
    draft_ns = verify_ns = 0
    ends = frozenset() if ignore_eos else frozenset(t for t in range(model.n_vocab) if model.is_end(t))
    pos = len(prompt)
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
        if now > next_tick and decode_tick:
            decode_tick(len(tokens))
            next_tick = clock() + 50_000_000
    if ends:
        tokens = _cut_after_end(tokens, ends)
    return Generation(
        tuple(tokens),
        prefill_ns,
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
