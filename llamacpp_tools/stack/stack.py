"""A stack: a version of upstream with a series on it, worked out in memory, and the ways in which it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.apply import Applied, apply_series
from llamacpp_tools.stack.export import portable_head
from llamacpp_tools.stack.resume import State
from llamacpp_tools.stack.series import Series
from llamacpp_tools.stack.source import Source, obtain, pin_of, repository
from llamacpp_tools.stack.touched import Touched, of_failures
from llamacpp_tools.stack.upstream import Upstream


@dataclass(frozen=True)
class Stack:
    """A version of upstream with a series on it.

    Attributes:
        source: the verified upstream commit.
        series: the patches applied; empty for stock.
        applied: what became of each patch, and the resulting HEAD and tree hash.
        tree_dir: the work tree, or None if only checked.
        touched: for each patch that failed, what upstream did to its files since the pin.
        kept: the reference that keeps what a person had committed in the tree before it moved; None if nothing.
    """

    source: Source
    series: Series
    applied: Applied
    tree_dir: Path | None
    touched: Mapping[str, Touched] = field(default_factory=dict)
    kept: str | None = None

    @property
    def series_head(self) -> str:
        """The commit that names this stack on any machine (`export.portable_head`); the tree's stands on upstream's."""
        return portable_head(repository(), self.applied)


class Refused(CheckFailed):
    """Not every patch is in the tree; `stack` has what became of each, `mend` the next step if there is one."""

    def __init__(self, stack: Stack, sentence: str, mend: str = "") -> None:
        super().__init__(f"{sentence}; {mend}" if mend else sentence)
        self.stack = stack
        self.mend = mend


class Stopped(Refused):
    """A rebase waits for a person: `state` has the patch and the files, `why` what is still to be done."""

    def __init__(self, stack: Stack, state: State, why: str) -> None:
        super().__init__(
            stack,
            f"stopped at {state.current} onto {state.label}: {why}; then run the same command again,"
            " or with --abort to go back",
        )
        self.state = state
        self.why = why


@dataclass(frozen=True)
class Aborted:
    """What `abort` put back: the tree and its HEAD, both None if there was no tree; `kept` refers to undone work."""

    tree: str
    tree_dir: Path | None
    head: str | None
    kept: str | None


def check(upstream: Upstream, series: Series, onto: str | None = None, source: str | None = None) -> Stack:
    """Apply the series in memory; nothing but objects is written and no ref of a tree moves.

    Raises:
        LltError: upstream could not be had or verified (see `source.obtain`).
    """
    found = obtain(upstream, onto, source)
    git = repository()
    if found.label != upstream.pin and (pin := pin_of(upstream, source)) is not None:
        # The files between two patches exist only where the series was once applied to what it was made for.
        apply_series(git, pin.commit, series.patches)
    applied = apply_series(git, found.commit, series.patches)
    return Stack(found, series, applied, None, failures_history(upstream, source, found, applied))


def failures_history(
    upstream: Upstream, source: str | None, found: Source, applied: Applied
) -> dict[str, Touched]:
    """For each patch that failed, what upstream did to its files since the pin; empty at the pin itself."""
    is_pin = found.label == upstream.pin or not any(each.status.stops for each in applied.outcomes)
    pin = None if is_pin else pin_of(upstream, source)
    return {} if pin is None else of_failures(repository(), pin, found, applied.outcomes)


def refusal(stack: Stack) -> str:
    """One sentence that names every patch that is not in the tree, with its hunks."""
    failed = [outcome for outcome in stack.applied.outcomes if not outcome.status.applies]
    told = "; ".join(
        f"{outcome.patch.name} ({outcome.patch.file.path}): {outcome.status}, {outcome.detail}"
        for outcome in failed
    )
    return f"{len(failed)} of {len(stack.applied.outcomes)} patches do not apply onto {stack.source.label}: {told}"
