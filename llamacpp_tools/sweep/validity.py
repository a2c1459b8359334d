"""Whether a cell did what its mode's name says, and where its tokens leave those of its reference.

The reference of a drafting mode is the same mode without the draft: dense for mtp, swa for swa+mtp, at
the same depth, workload, context and recipe. Greedy drafting changes no token, so on the CPU, where the
same work gives the same bits, a difference is a fault; but for one that begins where two tokens are as likely
(`engine.decode.TIE`), as a verification adds up several rows in another order than plain decode its one. Elsewhere
the order of additions changes more, so there the first difference is recorded and nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from llamacpp_tools.sweep.cell import CellSpec, Mode
from llamacpp_tools.sweep.outcome import CellOutcome

REFERENCE: dict[Mode, Mode] = {"mtp": "dense", "swa+mtp": "swa"}
# KV bytes are compared with the mode that differs by the recipe alone; any full one has the same size.
_UNBOUNDED: dict[Mode, tuple[Mode, ...]] = {"swa": ("dense", "mtp"), "swa+mtp": ("mtp", "dense")}


def first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """First index at which two token lists differ, the shorter one's length if it is a prefix."""
    for at, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return at
    return None if len(a) == len(b) else min(len(a), len(b))


def check(
    outcomes: Sequence[CellOutcome], deterministic: bool, full_kv: Callable[[CellSpec], int] | None = None
) -> list[CellOutcome]:
    """The outcomes with their divergence filled in, and `invalid` where a mode was not what it says.

    Args:
        outcomes: the cells of one sweep, in any order.
        deterministic: the backend gives the same bits for the same work (the CPU does).
        full_kv: bytes of KV that a cell would take without its window, for those that no measured cell tells of.
    """
    found = []
    for outcome in outcomes:
        if outcome.ok:
            reason = _wrong_alone(outcome, deterministic) or _unbounded(outcome, outcomes, full_kv)
            found.append(_against_reference(outcome, outcomes, deterministic, reason))
        else:
            found.append(outcome)
    return found


def _wrong_alone(outcome: CellOutcome, deterministic: bool) -> str | None:
    spec = outcome.spec
    if spec.mtp and spec.n_max:
        # The last draft is cut to what is still wanted, so a round of one step may rightly draft nothing.
        room = any(sample.n_gen > 1 for sample in outcome.rounds)
        if room and not any(sum(sample.drafted) for sample in outcome.rounds):
            return "the MTP head drafted nothing"
        granted = outcome.loaded.n_rs_seq if outcome.loaded else spec.n_max
        if granted < spec.n_max:
            return f"{spec.n_max} recurrent states were asked for roll-back and {granted} granted"
    if spec.forced:
        # Its text means nothing: a token between two that are as likely falls one way or the other.
        return None
    first = outcome.rounds[0]
    for sample in outcome.rounds[1:]:
        at = first_difference(first.tokens, sample.tokens)
        if deterministic and at is not None:
            return f"round {sample.round} gave other tokens than round {first.round}, from position {at}"
    if outcome.check is not None and deterministic:
        at = first_difference(outcome.check.tokens, first.tokens)
        if at is not None:
            return f"after a kept prefill it gave other tokens than after a true one, from position {at}"
    return None


def _unbounded(
    outcome: CellOutcome, outcomes: Iterable[CellOutcome], full_kv: Callable[[CellSpec], int] | None
) -> str | None:
    spec = outcome.spec
    if outcome.loaded is None or not spec.bounded or spec.window is None or spec.n_depth <= spec.window:
        return None
    for mode in _UNBOUNDED.get(spec.mode, ()):
        full = _find(outcomes, outcome, mode)
        if full is not None and full.loaded is not None and full.loaded.n_ctx == outcome.loaded.n_ctx:
            return _not_saved(spec, outcome.loaded.kv_bytes, full.loaded.kv_bytes)
    return _not_saved(spec, outcome.loaded.kv_bytes, full_kv(spec)) if full_kv is not None else None


def _not_saved(spec: CellSpec, found: int, full: int) -> str | None:
    if found < full:
        return None
    return f"the window of {spec.window} saved no KV memory: {found} bytes, {full} without it"


def _against_reference(
    outcome: CellOutcome, outcomes: Iterable[CellOutcome], deterministic: bool, reason: str | None
) -> CellOutcome:
    # A forced acceptance writes another text.
    wanted = None if outcome.spec.forced else REFERENCE.get(outcome.spec.mode)
    reference = _find(outcomes, outcome, wanted) if wanted else None
    if reference is not None and reference.ok:
        at = first_difference(reference.rounds[0].tokens, outcome.rounds[0].tokens)
        outcome = replace(outcome, reference=reference.spec.index, first_divergence=at)
        if at is not None and at in reference.rounds[0].ties:
            note = f"its tokens leave those of {wanted} at position {at}, where two were as likely"
            outcome = replace(outcome, notes=tuple(dict.fromkeys((*outcome.notes, note))))
        elif at is not None and deterministic and reason is None:
            reason = f"its tokens leave those of {wanted} at position {at}, which drafting must not cause"
    return outcome if reason is None else replace(outcome, status="invalid", reason=reason)


def _find(outcomes: Iterable[CellOutcome], like: CellOutcome, mode: Mode) -> CellOutcome | None:
    for other in outcomes:
        spec = other.spec
        if spec.mode != mode or spec.base_key() != like.spec.base_key():
            continue
        if spec.swa and spec.swa_key() != like.spec.swa_key():
            continue
        if spec.mtp and like.spec.mtp and spec.draft_key() != like.spec.draft_key():
            continue
        return other
    return None
