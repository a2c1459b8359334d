"""Greedy decode of one sequence, plain or with MTP, behind one interface.

A decoder owns what the C side keeps between two decodes (batches, queued hidden rows), so that a step is one
call from Python: nothing is allocated, and no logits are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llamacpp_tools.engine.context import Context
from llamacpp_tools.ffi.closing import Closing

Tick = Callable[[int, int], None]

_ROLLBACK_REFUSED = -100


@dataclass(slots=True)
class Step:
    """What one decode step did. The decoder hands out the same object each time: copy what must stay.

    Attributes:
        n_tokens: tokens produced: the accepted ones and the target's own next one.
        n_drafted, n_accepted: 0 without MTP.
        draft_ns, verify_ns: time drafting, and time verifying and rolling back; 0 without MTP.
    """

    n_tokens: int = 1
    n_drafted: int = 0
    n_accepted: int = 0
    draft_ns: int = 0
    verify_ns: int = 0


class Decoder(Protocol):
    """What `generate` needs: fill the caches, then step."""

    def prefill(self, tokens: Sequence[int], tick: Tick | None = None) -> int:
        """Forget all, decode the prompt, return the most likely next token."""

    def step(self, token: int, pos: int, out: Any, n_max: int) -> Step:
        """Decode `token` at `pos`; `out` (a C array of tokens) receives what follows it."""

    def close(self) -> None:
        """Free what the C side holds."""


class _Base(Closing):
    def __init__(self, target: Context, ignore_eos: bool) -> None:
        self._target = target
        self._ffi = target.model.library.ffi
        self._lib = target.model.library.lib
        model = target.model
        ends = [token for token in range(model.n_vocab) if model.is_end(token)] if ignore_eos else []
        self._banned = self._ffi.new("llama_token[]", ends)
        self._n_banned = len(ends)
        self._held: Any = None
        self._free: Any = None
        self._step = Step()

    @property
    def _handle(self) -> Any:
        if self._held is None:
            raise ValueError("the decoder is closed")
        return self._held

    def close(self) -> None:
        """Free what the C side holds; a second call does nothing."""
        if self._held is not None:
            self._free(self._held)
            self._held = None

    def _chunks(self, tokens: Sequence[int], decode: Any, tick: Tick | None) -> None:
        n_batch = self._target.options.n_batch
        held = self._ffi.new("llama_token[]", list(tokens))
        for begin in range(0, len(tokens), n_batch):
            count = min(n_batch, len(tokens) - begin)
            status = decode(self._handle, held + begin, count, begin)
            if status != 0:
                raise self._target.failed(status, f"the prefill of {len(tokens)} tokens at position {begin}")
            if tick:
                tick(begin + count, len(tokens))


class PlainDecoder(_Base):
    """One token a step.

    Args:
        target: a context.
        ignore_eos: never choose a token that ends the generation.
    """

    def __init__(self, target: Context, ignore_eos: bool = False) -> None:
        super().__init__(target, ignore_eos)
        self._free = self._lib.llt_plain_free
        self._held = self._lib.llt_plain_new(
            target.handle, target.options.n_batch, self._banned, self._n_banned
        )

    def prefill(self, tokens: Sequence[int], tick: Tick | None = None) -> int:
        """Forget all, decode the prompt in chunks of `n_batch`, return the most likely next token.

        Raises:
            LltError: a decode failed.
        """
        self._target.clear()
        self._chunks(tokens, self._lib.llt_plain_prefill, tick)
        return int(self._lib.llt_plain_next(self._handle))

    def step(self, token: int, pos: int, out: Any, n_max: int = 0) -> Step:
        """Decode `token` at `pos`; `out[0]` becomes the most likely token after it.

        Raises:
            LltError: the decode failed.
        """
        status = self._lib.llt_plain_step(self._handle, token, pos, out)
        if status != 0:
            raise self._target.failed(status, f"the decode at position {pos}")
        return self._step


class MtpDecoder(_Base):
    """Draft with the model's MTP block, verify with the model, roll back what was rejected.

    Args:
        target: a context with `n_rs_seq >= n_max`.
        draft: a context with `mtp=True` on the same model.
        n_max: the largest draft, in tokens.
        p_min: a draft ends before a token whose probability (among the ten likeliest) is lower.
        ignore_eos: never choose a token that ends the generation.
    """

    def __init__(
        self, target: Context, draft: Context, n_max: int, p_min: float = 0.0, ignore_eos: bool = False
    ) -> None:
        super().__init__(target, ignore_eos)
        self._draft = draft
        self._p_min = p_min
        self._told = self._ffi.new("struct llt_mtp_told *")
        self._free = self._lib.llt_mtp_free
        self._held = self._lib.llt_mtp_new(
            target.handle, draft.handle, target.options.n_batch, n_max, self._banned, self._n_banned
        )

    def prefill(self, tokens: Sequence[int], tick: Tick | None = None) -> int:
        """Forget all, decode the prompt in both contexts, return the most likely next token.

        Raises:
            LltError: a decode failed.
        """
        self._target.clear()
        self._draft.clear()
        self.reset()
        self._chunks(tokens, self._lib.llt_mtp_prefill, tick)
        return int(self._lib.llt_mtp_next(self._handle))

    def reset(self) -> None:
        """Forget what is queued for the draft context, and the carried row."""
        self._lib.llt_mtp_reset(self._handle)

    def carried(self) -> memoryview:
        """The trunk's hidden row at the last decoded position, as writable bytes that live as long as this."""
        n_embd = int(self._lib.llama_model_n_embd(self._target.model.handle))
        row = self._lib.llt_mtp_carried(self._handle)
        return memoryview(self._ffi.buffer(row, n_embd * self._ffi.sizeof("float"))).cast("B")

    def step(self, token: int, pos: int, out: Any, n_max: int) -> Step:
        """Draft up to `n_max` tokens after `token` (which stands at `pos`) and verify them.

        `out` must have room for `n_max + 1` tokens and receives `n_tokens` of the returned step.

        Raises:
            LltError: a decode failed, or the recurrent state could not be rolled back.
        """
        told = self._told
        status = self._lib.llt_mtp_step(self._handle, token, pos, n_max, self._p_min, out, told)
        if status == _ROLLBACK_REFUSED:
            raise self._target.failed(
                status, f"the rollback of {told.n_drafted - told.n_accepted} tokens at position {pos}"
            )
        if status != 0:
            where = "draft" if told.status_draft else "target"
            raise self._target.failed(status, f"the {where} decode at position {pos}")
        step = self._step
        step.n_drafted = told.n_drafted
        step.n_accepted = told.n_accepted
        step.n_tokens = told.n_accepted + 1
        step.draft_ns = told.draft_ns
        step.verify_ns = told.verify_ns
        return step
