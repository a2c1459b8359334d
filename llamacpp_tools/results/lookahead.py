"""The part of a result that `llt acceptance` adds: what drafts come true by class of text, and what that pays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Span = Annotated[list[float], Field(min_length=2, max_length=2)]
Verdict = Literal["pays", "does not pay", "no gain shown", "no cost known"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Return(_Model):
    """What drafts of `n_max` give: a generation replayed from the trace, against what a step costs.

    `tokens_per_step` counts the target's own token. `cost` is a step's time in units of a token of plain decode, T(1);
    `break_even` the acceptance (accepted over drafted) from which this length pays, `gain` tokens per step over cost.
    Null where no cost was measured.
    """

    n_max: int
    steps: int
    drafted: int
    accepted: int
    acceptance: float
    tokens_per_step: float
    cost: float | None = None
    cost_interval: Span | None = None
    break_even: float | None = None
    step_ms: float | None = None
    tps: float | None = None
    gain: float | None = None
    gain_interval: Span | None = None


class ClassLookahead(_Model):
    """One class of text.

    `runs` has one entry for each of the first `positions` tokens: how many of the `lookahead` tokens drafted there
    would have been accepted, one after the other. `histogram[k]` counts the positions with a run of k, `accepted[k]`
    those where the first k + 1 were all right, `agreed[k]` those where the token drafted k + 1 ahead came true whatever
    became of those before it. `returns` has one entry for each draft length; `best` is the length with the greatest
    gain of those that are shown to gain, else of all, and `verdict` says which it is. `first_divergence` is where the
    watched text leaves that of plain decode: null if it does not. Of a class that could not be measured `reason` says
    why.
    """

    name: str
    workload: str
    reason: str | None = None
    positions: int = 0
    runs: list[int] = []
    histogram: list[int] = []
    accepted: list[int] = []
    agreed: list[int] = []
    first_divergence: int | None = None
    plain_tps: float | None = None
    returns: list[Return] = []
    best: int | None = None
    verdict: Verdict | None = None


class Lookahead(_Model):
    """All classes, at one depth and recipe.

    `token_ms` is T(1), `idle` the time of a token of a session that could draft and does not, in units of T(1).
    `together` has the returns of all classes' steps together. `draft_history` and `hidden_row` say what the drafts saw,
    `command` what was typed, with the model's file in the current folder.
    """

    command: str = "llt acceptance MODEL"
    n_depth: int
    lookahead: int
    mtp: bool
    draft_history: bool = True
    hidden_row: Literal["after-norm", "before-norm"] = "after-norm"
    token_ms: float | None = None
    idle: float | None = None
    classes: list[ClassLookahead]
    together: list[Return] = []
