"""Decode of one sequence, greedy or sampled, plain or with MTP, behind one interface.

A decoder owns what the C side keeps between two decodes (batches, queued hidden rows), so that a step is one
call from Python: nothing is allocated, and no logits are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from llamacpp_tools.engine.context import Context
from llamacpp_tools.engine.native_control import NativeControl
from llamacpp_tools.engine.sampling import Sampler
from llamacpp_tools.ffi.handle import Handle

Tick = Callable[[int, int], None]

# As many drafted tokens are accepted as the target agrees with.
BY_AGREEMENT = -1
_ROLLBACK_REFUSED = -100
# Logits that differ by less may change places where rows are added up in another order (llt_plain_tied). On the
# miniature in q8_0, 47 of 48 texts of 1,536 tokens had such a change: half at margins below 0.007, all but one below
# 0.065, that one at 0.144 (results/benchmarks/near-ties.json).
TIE = 0.2


@dataclass(slots=True)
class Step:
    """What one decode step did. The decoder hands out the same object each time: copy what must stay.

    Attributes:
        n_tokens: tokens produced: the accepted ones and the target's own next one.
        n_drafted, n_accepted: 0 without MTP.
        draft_ns, verify_ns: time drafting, and time verifying and rolling back; 0 without MTP.
        why: why the draft was to be so long (`control.Why`), if a controller said so.
        tied: another token was as likely as the one chosen, within `TIE`; always False with MTP.
    """

    n_tokens: int = 1
    n_drafted: int = 0
    n_accepted: int = 0
    draft_ns: int = 0
    verify_ns: int = 0
    why: int = 0
    tied: bool = False


class Decoder(Protocol):
    """What `generate` needs: fill the caches, then step."""

    def prefill(self, tokens: Sequence[int], tick: Tick | None = None) -> int:
        """Forget all, decode the prompt, return the token chosen after it."""

    def append(self, tokens: Sequence[int], pos: int) -> int:
        """Decode more of a prompt at `pos`, after what is there; return the token chosen after it."""

    def step(
        self,
        token: int,
        pos: int,
        out: Any,
        n_max: int,
        n_forced: int = BY_AGREEMENT,
        control: NativeControl | None = None,
    ) -> Step:
        """Decode `token` at `pos`; `out` (a C array of tokens) receives what follows it."""

    def sample_with(self, sampler: Sampler | None) -> None:
        """Choose tokens with a sampler chain from now on; None for the most likely one."""

    def close(self) -> None:
        """Free what the C side holds."""


class _Calls(NamedTuple):
    """The C functions that every decoder has under a name of its own."""

    free: Any
    sample: Any
    prefill: Any
    next: Any


class _Base(Handle):
    def __init__(self, pointer: Any, calls: _Calls, target: Context, *others: Context) -> None:
        super().__init__("the decoder", pointer, calls.free, target, *others)
        self._target = target
        self._ffi, self._lib = target.model.library.ffi, target.model.library.lib
        self._sample, self._prefill, self._next = calls.sample, calls.prefill, calls.next
        self._sampler: Sampler | None = None
        self._step = Step()

    def sample_with(self, sampler: Sampler | None) -> None:
        """Choose tokens with a sampler chain from now on; None for the most likely one."""
        self._sample(self.handle, self._ffi.NULL if sampler is None else sampler.handle)
        self._sampler = sampler

    def _ready(self) -> None:
        # A sampler that was closed is an error here, and a crash one call further on.
        if self._sampler is not None:
            _ = self._sampler.handle
        self._target.model.library.raise_interrupt()

    def append(self, tokens: Sequence[int], pos: int) -> int:
        """Decode more of a prompt at `pos`, after what is there; return the token chosen after it.

        Raises:
            LltError: a decode failed.
        """
        return self._fill(tokens, pos, None)

    def _fill(self, tokens: Sequence[int], pos: int, tick: Tick | None) -> int:
        self._ready()
        n_batch = self._target.options.n_batch
        held = self._ffi.new("llama_token[]", list(tokens))
        for begin in range(0, len(tokens), n_batch):
            count = min(n_batch, len(tokens) - begin)
            status = self._prefill(self.handle, held + begin, count, pos + begin)
            if status != 0:
                where = f"the prefill of {len(tokens)} tokens at position {pos + begin}"
                raise self._target.failed(status, where)
            if tick:
                tick(begin + count, len(tokens))
        return int(self._next(self.handle))


class PlainDecoder(_Base):
    """One token a step.

    Args:
        target: a context.
        ignore_eos: never choose a token that ends the generation.
    """

    def __init__(self, target: Context, ignore_eos: bool = False) -> None:
        lib = target.model.library.lib
        new = lib.llt_plain_new(target.handle, target.options.n_batch, *_banned(target, ignore_eos))
        calls = _Calls(lib.llt_plain_free, lib.llt_plain_sample, lib.llt_plain_prefill, lib.llt_plain_next)
        super().__init__(new, calls, target)

    def prefill(self, tokens: Sequence[int], tick: Tick | None = None) -> int:
        """Forget all, decode the prompt in chunks of `n_batch`, return the token chosen after it.

        Raises:
            LltError: a decode failed.
        """
        self._target.clear()
        return self._fill(tokens, 0, tick)

    def step(
        self,
        token: int,
        pos: int,
        out: Any,
        n_max: int = 0,
        n_forced: int = BY_AGREEMENT,
        control: NativeControl | None = None,
    ) -> Step:
        """Decode `token` at `pos`; `out[0]` becomes the token chosen after it.

        Raises:
            LltError: the decode failed.
        """
        self._ready()
        status = self._lib.llt_plain_step(self.handle, token, pos, out)
        if status != 0:
            raise self._target.failed(status, f"the decode at position {pos}")
        self._step.tied = self._lib.llt_plain_tied(self.handle, TIE)
        return self._step


class MtpDecoder(_Base):
    """Draft with the model's MTP block, verify with the model, roll back what was rejected.

    Args:
        target: a context with `n_rs_seq >= n_max`.
        draft: a context with `mtp=True` on the same model.
        n_max: the largest draft, in tokens.
        p_min: a draft ends before a token whose probability (among the ten likeliest) is lower.
        ignore_eos: never choose a token that ends the generation (a sampler has to ban them itself).
    """

    def __init__(
        self, target: Context, draft: Context, n_max: int, p_min: float = 0.0, ignore_eos: bool = False
    ) -> None:
        lib = target.model.library.lib
        size = (target.options.n_batch, n_max)
        new = lib.llt_mtp_new(target.handle, draft.handle, *size, *_banned(target, ignore_eos))
        calls = _Calls(lib.llt_mtp_free, lib.llt_mtp_sample, lib.llt_mtp_prefill, lib.llt_mtp_next)
        super().__init__(new, calls, target, draft)
        self._draft = draft
        self._p_min = p_min
        self._told = self._ffi.new("struct llt_mtp_told *")

    def prefill(self, tokens: Sequence[int], tick: Tick | None = None) -> int:
        """Forget all, decode the prompt in both contexts, return the token chosen after it.

        Raises:
            LltError: a decode failed.
        """
        self._target.clear()
        self._draft.clear()
        self.reset()
        return self._fill(tokens, 0, tick)

    def reset(self) -> None:
        """Forget what is queued for the draft context, and the carried row."""
        self._lib.llt_mtp_reset(self.handle)

    def carried(self) -> memoryview:
        """The trunk's hidden row at the last decoded position, as writable bytes that live as long as this."""
        n_embd = int(self._lib.llama_model_n_embd(self._target.model.handle))
        row = self._lib.llt_mtp_carried(self.handle)
        return memoryview(self._ffi.buffer(row, n_embd * self._ffi.sizeof("float"))).cast("B")

    def step(
        self,
        token: int,
        pos: int,
        out: Any,
        n_max: int,
        n_forced: int = BY_AGREEMENT,
        control: NativeControl | None = None,
    ) -> Step:
        """Draft up to `n_max` tokens after `token` (which stands at `pos`) and verify them.

        `out` must have room for `n_max + 1` tokens and receives `n_tokens` of the returned step. With `n_forced` not
        negative that many drafted tokens are accepted, whatever the target says: the text means nothing then. A
        `control` says how many to draft, at most `n_max`, and is told what came of it.

        Raises:
            LltError: a decode failed, or the recurrent state could not be rolled back.
        """
        self._ready()
        told, steered = self._told, self._ffi.NULL if control is None else control.pointer
        status = self._lib.llt_mtp_step(
            self.handle, steered, token, pos, n_max, self._p_min, n_forced, out, told
        )
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
        step.why = told.why
        return step

    def watch(self, token: int, pos: int, n_draft: int, drafted: Any, out: Any) -> Step:
        """Draft `n_draft` tokens after `token` (which stands at `pos`), drop them, and decode `token` alone.

        `drafted` receives what was drafted, `out[0]` becomes the token chosen after `token`: the text is that of plain
        decode.

        Raises:
            LltError: a decode failed.
        """
        self._ready()
        told = self._told
        status = self._lib.llt_mtp_watch(self.handle, token, pos, n_draft, drafted, out, told)
        if status != 0:
            where = "draft" if told.status_draft else "target"
            raise self._target.failed(status, f"the {where} decode at position {pos}")
        step = self._step
        step.n_drafted, step.n_accepted, step.n_tokens = told.n_drafted, 0, 1
        step.draft_ns, step.verify_ns = told.draft_ns, told.verify_ns
        return step

    def catch_up(self, most: int) -> None:
        """Have each draft catch up with so many tokens at most, after steps without one; all by default.

        The MTP block never sees the older ones. Only where positions may be left out
        (`Model.positions_may_be_left_out`). A step with a `control` does as that says.
        """
        self._lib.llt_mtp_catch_up(self.handle, most)

    def bisect(self, history: bool, trunk_factors: Sequence[float], block_factors: Sequence[float]) -> None:
        """Change what a draft sees, to find a fault (see `engine.bisect`); call it before a prefill.

        Args:
            history: False empties the MTP block's own cache before each draft.
            trunk_factors, block_factors: [n_embd] each, for the trunk's hidden rows and the block's own; empty for the
                rows as the library gives them.
        """
        factors = [
            self._ffi.new("float[]", list(each)) if each else self._ffi.NULL
            for each in (trunk_factors, block_factors)
        ]
        self._lib.llt_mtp_bisect(self.handle, history, *factors)


def _banned(target: Context, ignore_eos: bool) -> tuple[Any, int]:
    """The tokens that are never chosen, as a C array that the decoder copies, and their number."""
    banned = sorted(target.model.end_tokens) if ignore_eos else []
    return target.model.library.ffi.new("llama_token[]", banned), len(banned)
