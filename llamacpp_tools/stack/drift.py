"""`llt drift`: which upstream commit breaks which patch, and how far the whole series still goes.

What becomes of a patch depends on nothing but what upstream has at the paths that the patch, and those before
it in the series that share a path with it, touch. So steps with the same blobs at these paths have the same
outcome by construction, and the series is applied once for each distinct state instead of once for each step.
Patches that share no path are taken apart from each other, which makes far fewer states.
That is exact at every step, where a bisection is not: conflicts are not monotone, a patch that breaks may heal
when upstream reverts. So "first break" is the first after the pin, with nothing skipped. The frontier (the
newest step where all apply, each first break, each healing, and their neighbours) is then applied again
straight, the whole series on the real commit, and must agree.

No work tree, no build, no ref: objects go to a throw-away repository.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.apply import Applied, Outcome, apply_series, split_mail
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.heat import Touch, heat
from llamacpp_tools.stack.history import History, Kind, Step, open_history
from llamacpp_tools.stack.place import Index, place
from llamacpp_tools.stack.series import Patch, Series
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.treestate import ABSENT, states
from llamacpp_tools.stack.upstream import Upstream

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
Grid = list[tuple[Status, ...]]


@dataclass(frozen=True)
class Span:
    """Successive steps at which a patch has one status; both ends included."""

    status: Status
    first: Step
    last: Step
    steps: int


@dataclass(frozen=True)
class Break:
    """Where a patch stops applying.

    Attributes:
        step: the first step at which it does not apply.
        status: what it is there (conflict, already upstream, ...).
        before: the last step at which it applied; None if it does not apply at the pin.
        detail: git's reason, and where upstream moved a file of the patch to.
    """

    step: Step
    status: Status
    before: Step | None
    detail: str


@dataclass(frozen=True)
class PatchDrift:
    """One patch over all steps.

    Attributes:
        patch: the patch.
        spans: its status over all steps, in order.
        first_break: the first break after the pin; None if it applies at every step.
        heals_at: the first step after `first_break` at which it applies again.
        newest_clean: the newest step at which it applies.
        heat: the steps that changed its files, in order, whether or not it still applies.
    """

    patch: Patch
    spans: tuple[Span, ...]
    first_break: Break | None
    heals_at: Step | None
    newest_clean: Step | None
    heat: tuple[Touch, ...]

    @property
    def status(self) -> Status:
        """The status at the target."""
        return self.spans[-1].status


@dataclass(frozen=True)
class Drift:
    """The whole answer.

    Attributes:
        steps: the pin, and everything after it up to the target.
        grid: per step the status of each patch, in the series' order.
        newest_clean: the newest step at which the whole series applies; None if at none.
        evaluated: how many distinct states were applied; `verified`: how many steps straight again.
    """

    kind: Kind
    origin: str
    note: str
    series: Series
    steps: tuple[Step, ...]
    grid: Grid
    patches: tuple[PatchDrift, ...]
    newest_clean: Step | None
    evaluated: int
    verified: int

    @property
    def complete(self) -> bool:
        """True if every patch applies at the target."""
        return all(status.applies for status in self.grid[-1])


def drift(
    upstream: Upstream,
    series: Series,
    to: str | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> Drift:
    """Follow the series from the pin to `to` (see `history.open_history` for both arguments).

    `progress` gets (distinct states done, in all, what is being applied).

    Raises:
        LltError: upstream could not be had or verified (`history.open_history`).
        CheckFailed: the straight apply contradicts; a defect of llt, never expected.
    """
    with open_history(upstream, to, source) as history:
        return _follow(history, series, progress)


def _follow(history: History, series: Series, progress: Progress | None) -> Drift:
    git, steps, patches = history.git, history.steps, series.patches
    # First of all, so that every text that a later patch names as its preimage is among the objects: else a
    # three-way merge would depend on the order in which states are tried.
    at_pin = apply_series(git, steps[0].commit, patches)
    grid, evaluated = status_grid(git, steps, patches, progress)
    straight = _verify(git, steps, patches, grid)
    touches = heat(git, steps, patches, at_pin)
    found = [
        _patch_drift(git, steps, [row[index] for row in grid], index, patch, touches[index], straight)
        for index, patch in enumerate(patches)
    ]
    complete = [index for index, row in enumerate(grid) if all(status.applies for status in row)]
    return Drift(
        history.kind,
        history.origin,
        history.note,
        series,
        steps,
        grid,
        tuple(found),
        steps[complete[-1]] if complete else None,
        evaluated,
        len(straight),
    )


def status_grid(
    git: Git, steps: Sequence[Step], patches: Sequence[Patch], progress: Progress | None = None
) -> tuple[Grid, int]:
    """The status of each patch at each step, and how many distinct states had to be applied for it."""
    jobs: list[tuple[tuple[int, ...], list[int]]] = []
    for group in groups(patches):
        paths = sorted({path for index in group for path in patches[index].file.paths})
        places: dict[tuple[str, ...], list[int]] = {}
        for number, state in enumerate(states(git, [step.tree for step in steps], paths)):
            places.setdefault(state, []).append(number)
        jobs += [(group, numbers) for numbers in places.values()]

    rows: list[list[Status]] = [[Status.CLEAN] * len(patches) for _ in steps]
    with tempfile.TemporaryDirectory(prefix="llt-drift-") as name, _pool() as pool:
        diffs = [_diff(git, patch, Path(name) / str(index)) for index, patch in enumerate(patches)]
        running = {
            pool.submit(
                _statuses,
                git,
                steps[numbers[0]],
                [patches[index] for index in group],
                [diffs[index] for index in group],
                Path(name) / f"index-{job}",
            ): (group, numbers)
            for job, (group, numbers) in enumerate(jobs)
        }
        for done, future in enumerate(as_completed(running), start=1):
            group, numbers = running[future]
            for index, status in zip(group, future.result(), strict=True):
                for number in numbers:
                    rows[number][index] = status
            if progress is not None:
                progress(done, len(jobs), steps[numbers[0]].label)
    return [tuple(row) for row in rows], len(jobs)


def _statuses(
    git: Git, step: Step, patches: Sequence[Patch], diffs: Sequence[Path], path: Path
) -> list[Status]:
    """What `apply_series` says of `patches` at a step, by a shorter way as long as nothing fails.

    The tree that one patch gives is what the next one meets, so no commits are made in between. At the first
    failure `apply_series` itself decides, on all of them.
    """
    index = Index(git, path)
    index.read(step.tree)
    found = []
    tree = step.tree
    for patch, diff in zip(patches, diffs, strict=True):
        placed = place(index, tree, patch, str(diff))
        if placed.tree is None:
            found = [outcome.status for outcome in apply_series(git, step.commit, patches).outcomes]
            break
        tree = placed.tree
        found.append(placed.status)
    path.unlink(missing_ok=True)
    return found


def _diff(git: Git, patch: Patch, folder: Path) -> Path:
    folder.mkdir()
    return split_mail(git, patch, folder).diff


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        # After Ctrl-C, what has not begun must not be waited for.
        pool.shutdown(cancel_futures=True)


def groups(patches: Sequence[Patch]) -> list[tuple[int, ...]]:
    """Indexes of patches that touch a common path (or one a file where the other wants a folder), in order.

    Patches of different groups have no say in each other's outcome.
    """
    found: list[tuple[set[str], list[int]]] = []
    for index, patch in enumerate(patches):
        marks = set(patch.file.paths)
        members = [index]
        rest = []
        for other, indexes in found:
            if _meet(marks, other):
                marks |= other
                members += indexes
            else:
                rest.append((other, indexes))
        found = [*rest, (marks, members)]
    return sorted(tuple(sorted(members)) for _, members in found)


def _meet(one: set[str], two: set[str]) -> bool:
    return any(a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/") for a in one for b in two)


def _verify(git: Git, steps: Sequence[Step], patches: Sequence[Patch], grid: Grid) -> dict[int, Applied]:
    """Apply the whole series straight at the frontier; what came of it, by the step's number."""
    frontier = {0, len(steps) - 1}
    complete = [number for number, row in enumerate(grid) if all(status.applies for status in row)]
    if complete:
        frontier |= {complete[-1], min(complete[-1] + 1, len(steps) - 1)}
    for index in range(len(patches)):
        at = first_break([row[index] for row in grid])
        if at is not None:
            frontier |= {max(at - 1, 0), at}
            healed = _healed([row[index] for row in grid], at)
            frontier |= set() if healed is None else {healed - 1, healed}
    numbers = sorted(frontier)
    with _pool() as pool:
        applied = list(pool.map(lambda number: apply_series(git, steps[number].commit, patches), numbers))
    straight = dict(zip(numbers, applied, strict=True))
    for number, result in straight.items():
        seen = tuple(outcome.status for outcome in result.outcomes)
        if seen != grid[number]:
            raise CheckFailed(
                f"at {steps[number].label} the straight apply gives {', '.join(seen)}, by its blobs it should be"
                f" {', '.join(grid[number])}: please report this defect of llt drift"
            )
    return straight


def first_break(column: Sequence[Status]) -> int | None:
    """The number of the first step at which a patch does not apply, or None."""
    return next((number for number, status in enumerate(column) if not status.applies), None)


def _healed(column: Sequence[Status], broken: int) -> int | None:
    return next((number for number in range(broken, len(column)) if column[number].applies), None)


def _patch_drift(
    git: Git,
    steps: Sequence[Step],
    column: Sequence[Status],
    index: int,
    patch: Patch,
    touches: tuple[Touch, ...],
    straight: dict[int, Applied],
) -> PatchDrift:
    at = first_break(column)
    broken = healed = None
    if at is not None:
        before = steps[at - 1] if at else None
        detail = _detail(git, straight[at].outcomes[index], before, steps[at])
        broken = Break(steps[at], column[at], before, detail)
        number = _healed(column, at)
        healed = None if number is None else steps[number]
    applying = [number for number, status in enumerate(column) if status.applies]
    newest = steps[applying[-1]] if applying else None
    return PatchDrift(patch, spans(steps, column), broken, healed, newest, touches)


def spans(steps: Sequence[Step], column: Sequence[Status]) -> tuple[Span, ...]:
    """The runs of equal status in `column`, one status a step."""
    found = []
    start = 0
    for number in range(1, len(column) + 1):
        if number == len(column) or column[number] != column[start]:
            found.append(Span(column[start], steps[start], steps[number - 1], number - start))
            start = number
    return tuple(found)


def _detail(git: Git, outcome: Outcome, before: Step | None, step: Step) -> str:
    """The outcome's own words, and the new name of each file of the patch that upstream renamed right here."""
    said = [outcome.detail] if outcome.detail else []
    if before is not None:
        paths = outcome.patch.file.paths
        old, new = states(git, [before.tree, step.tree], paths)
        gone = {path for path, was, now in zip(paths, old, new, strict=True) if now == ABSENT != was}
        if gone:
            answer = git.run(
                "diff-tree", "-r", "-M", "--diff-filter=R", "--name-status", "-z", before.tree, step.tree
            )
            words = answer.text.rstrip("\0").split("\0")
            renamed = zip(words[1::3], words[2::3], strict=False)
            said += [f"upstream renamed {path} to {name}" for path, name in renamed if path in gone]
    return "; ".join(said)
