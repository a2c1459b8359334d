"""`llt rebase`: upstream at a version, the series on top, and a work tree that is ready to build.

A check and a real run apply the series in memory first (`stack.apply`); only then is the tree touched, each
step journaled before it is taken (`stack.resume`). So a run that was killed is finished by the next one, a
run that stopped at a conflict goes on from there, and `abort` puts back what was.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack import resume
from llamacpp_tools.stack.apply import Applied, Outcome, Status, apply_series, commit_tree, split_mail
from llamacpp_tools.stack.export import portable_head
from llamacpp_tools.stack.lock import hold
from llamacpp_tools.stack.resume import Phase, State
from llamacpp_tools.stack.series import Patch, Series
from llamacpp_tools.stack.source import Source, obtain, pin_of, repository, slug
from llamacpp_tools.stack.touched import Touched, of_failures
from llamacpp_tools.stack.upstream import Upstream
from llamacpp_tools.stack.worktree import Tree, listed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """A version of upstream with a series on it.

    Attributes:
        source: the verified upstream commit.
        series: the patches applied; empty for stock.
        applied: what became of each patch, and the resulting HEAD and tree hash.
        tree_dir: the work tree, or None if only checked.
        touched: for each patch that failed, what upstream did to its files since the pin.
    """

    source: Source
    series: Series
    applied: Applied
    tree_dir: Path | None
    touched: Mapping[str, Touched] = field(default_factory=dict)

    @property
    def series_head(self) -> str:
        """The commit that names this stack on any machine (`export.portable_head`); the tree's stands on upstream's."""
        return portable_head(repository(), self.applied)


class Refused(CheckFailed):
    """Not every patch is in the tree; `stack` has what became of each."""

    def __init__(self, stack: Stack, sentence: str) -> None:
        super().__init__(sentence)
        self.stack = stack


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
    """What `abort` put back: the tree and its HEAD, both None if there was no tree; `kept` has undone work."""

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
    return Stack(found, series, applied, None, _history(upstream, source, found, applied))


def _history(upstream: Upstream, source: str | None, found: Source, applied: Applied) -> dict[str, Touched]:
    is_pin = found.label == upstream.pin or not any(each.status.stops for each in applied.outcomes)
    pin = None if is_pin else pin_of(upstream, source)
    return {} if pin is None else of_failures(repository(), pin, found, applied.outcomes)


def rebase(
    upstream: Upstream,
    series: Series,
    onto: str | None = None,
    source: str | None = None,
    *,
    stop: bool = False,
) -> Stack:
    """Apply the series and check it out into its work tree under `LLT_HOME`.

    A tree with uncommitted changes is never overwritten, and one whose HEAD is already the result is left
    untouched, so that its time stamps stay and a build has nothing to redo.

    Args:
        upstream: what `upstream.yaml` says.
        series: the patches.
        onto: see `source.obtain`.
        source: see `source.obtain`.
        stop: at a patch that does not apply, leave the tree there with conflict markers for a person, and go on
            from there in the next call. Without it such a series is refused and the tree left as it was.

    Raises:
        Stopped: with `stop`, a person is needed.
        Refused: a patch does not apply; or, with `stop`, upstream already has one (the tree has the others).
        CheckFailed: the tree has changes of its own, or another llt is at work on it.
        LltError: upstream could not be had or verified.
    """
    name = _name(series, onto or upstream.pin)
    with hold(home.trees_dir() / f"{name}.lock", wait=not stop) as lock:
        run = _Run(Tree(name, lock), upstream, series, source)
        state = run.recover(stop)
        if state is not None:
            return run.go_on(state)
        stack = check(upstream, series, onto, source)
        if not stack.applied.complete:
            done = resume.recorded(name, stack.source.commit, series)
            by_hand = done is not None and run.is_at(done[-1].commit)
            if done is not None and by_hand and stop:
                return run.resolved(stack, done)
            if not (stop and _may_start(stack)):
                mend = (
                    f"; {run.tree.folder} has them resolved by hand: `llt patches refresh`" if by_hand else ""
                )
                raise Refused(stack, refusal(stack) + mend)
        return run.start(stack)


def abort(upstream: Upstream, series: Series, onto: str | None = None) -> Aborted:
    """Put a tree back to what it was before its rebase stopped: HEAD, index and files.

    What a person did in the tree since is committed under `refs/llt/backup/` first.

    Raises:
        BadInput: no rebase of that tree is under way.
        CheckFailed: another llt is at work on it.
    """
    name = _name(series, onto or upstream.pin)
    stopped = resume.stopped_trees()
    if onto is None and name not in stopped and len(stopped) == 1:
        name = stopped[0]
    with hold(home.trees_dir() / f"{name}.lock", wait=False) as lock:
        state = resume.load_state(name)
        if state is None:
            others = f"; under way: {', '.join(stopped)} (name its version with --onto)" if stopped else ""
            raise BadInput(f"no rebase of {name} is under way{others}")
        return _abort(Tree(name, lock), state)


def refusal(stack: Stack) -> str:
    """One sentence that names every patch that is not in the tree, with its hunks."""
    failed = [outcome for outcome in stack.applied.outcomes if not outcome.status.applies]
    told = "; ".join(
        f"{outcome.patch.name} ({outcome.patch.file.path}): {outcome.status}, {outcome.detail}"
        for outcome in failed
    )
    return f"{len(failed)} of {len(stack.applied.outcomes)} patches do not apply onto {stack.source.label}: {told}"


def tree_name(stack: Stack) -> str:
    """The folder's name: stock or patched, what was left out, and the version."""
    return _name(stack.series, stack.source.label)


def _name(series: Series, label: str) -> str:
    variant = "patched" if series.patches else "stock"
    left_out = "".join(f"-without-{name}" for name in series.without) if series.patches else ""
    return f"{variant}{left_out}-{slug(label)}"


def _may_start(stack: Stack) -> bool:
    return any(outcome.status.stops or outcome.status.applies for outcome in stack.applied.outcomes)


class _Run:
    """One rebase of one tree, whose lock is held."""

    def __init__(self, tree: Tree, upstream: Upstream, series: Series, source: str | None) -> None:
        self.tree = tree
        self.upstream = upstream
        self.series = series
        self.source = source
        self.git = repository()

    def recover(self, stop: bool) -> State | None:
        """Finish what a killed run left; the state that is still to go on from, or None to begin afresh."""
        state = resume.load_state(self.tree.name)
        if state is None:
            return None
        if state.phase is Phase.ABORTING:
            _abort(self.tree, state)
            return None
        if state.phase is Phase.MOVING:
            self.tree.clear_stale(index=True)
            self._finish(state, forced=True)
            return None
        if not stop:
            raise CheckFailed(
                f"a rebase of {self.tree.name} is stopped at {state.current}: finish it with `llt rebase`, or go"
                " back with `llt rebase --abort`"
            )
        if state.series_digest != self.series.digest:
            raise CheckFailed(
                f"the patches are not those that the rebase of {self.tree.name} began with (series"
                f" {state.series_digest[:12]}, now {self.series.digest[:12]}): put them back to go on, or go back"
                " with --abort"
            )
        return state

    def start(self, stack: Stack) -> Stack:
        """Put the result of a check into the tree, or stop at its first failure."""
        self.tree.require_clean()
        before = self.tree.head
        begun = State(
            self.tree.name, stack.source.label, stack.source.origin, stack.source.commit, self.series.digest,
            Phase.MOVING, stack.source.commit,
            previous_head=before, previous_ref=self.tree.branch if before else None,
        )  # fmt: skip
        state = resume.plan(begun, stack.applied.outcomes)
        if state.phase is Phase.MOVING and state.target == before:
            resume.save_record(state)
        elif state.phase is Phase.MOVING:
            resume.save_state(state)
            self._finish(state, forced=False)
        else:
            resume.save_state(state)
            return self._work_off(state, stack.touched, forced=False)
        return self._ready(Stack(stack.source, self.series, stack.applied, self.tree.folder, stack.touched))

    def go_on(self, state: State) -> Stack:
        """Go on from a stop; the tree is a person's until all they had to do is done."""
        self.tree.clear_stale(index=state.phase is not Phase.CONFLICT)
        if state.phase is Phase.STOPPING:
            return self._work_off(state, None, forced=True)
        tree = self._resolution(state)
        self.tree.learn()
        state = self._next(state, tree, "resolved by hand: refresh the file")
        return self._work_off(state, None, forced=True)

    def is_at(self, commit: str | None) -> bool:
        """True if the tree has that commit checked out, with no changes of its own."""
        if commit is None or self.tree.head != commit:
            return False
        self.tree.require_clean()
        return True

    def resolved(self, stack: Stack, done: tuple[resume.Done, ...]) -> Stack:
        """The stack as a person finished it: what is checked out already has every patch."""
        head = self.tree.head
        assert head is not None
        outcomes = resume.outcomes_of(done, self.series)
        applied = Applied(stack.source.commit, head, self.git.tree_of(head), outcomes)
        return Stack(stack.source, self.series, applied, self.tree.folder)

    def _work_off(self, state: State, known: Mapping[str, Touched] | None, *, forced: bool) -> Stack:
        """Patch after patch from a journaled state, until all are in or one needs a person."""
        while state.phase is Phase.STOPPING:
            try:
                self.tree.move(state.target, forced=forced)
            except CheckFailed:
                self._give_up(state, forced=forced)
                raise
            forced = True
            patch = self._patch(state)
            with tempfile.TemporaryDirectory(prefix="llt-stop-") as name:
                left = self.tree.attempt(patch, split_mail(self.git, patch, Path(name)).diff)
            if left.files or left.rejects:
                state = state.but(phase=Phase.CONFLICT, files=left.files, rejects=left.rejects)
                resume.save_state(state)
                raise self._stopped(state, self._first_step(state), known)
            state = self._next(
                state, self.tree.staged_tree(), "by the resolution recorded before: look it over"
            )
        self._finish(state, forced=True)
        applied = resume.applied_of(self.git, state, self.series)
        return self._ready(Stack(resume.source_of(self.git, state), self.series, applied, self.tree.folder))

    def _next(self, state: State, tree: str, detail: str) -> State:
        """Commit the resolution, try the rest on it in memory, and journal what that means for the tree."""
        patch = self._patch(state)
        with tempfile.TemporaryDirectory(prefix="llt-commit-") as name:
            commit = commit_tree(self.git, tree, state.target, split_mail(self.git, patch, Path(name)))
        outcomes = [Outcome(patch, Status.RESOLVED, commit, detail)]
        rest = self.series.patches[self.series.patches.index(patch) + 1 :]
        outcomes += apply_series(self.git, commit, rest).outcomes
        state = resume.plan(state, outcomes)
        resume.save_state(state)
        return state

    def _finish(self, state: State, *, forced: bool) -> None:
        try:
            self.tree.move(state.target, forced=forced)
        except CheckFailed:
            self._give_up(state, forced=forced)
            raise
        resume.save_record(state)
        resume.drop_state(state.tree)

    def _give_up(self, state: State, *, forced: bool) -> None:
        """git refused before it changed anything: then there is nothing to recover from."""
        before = state.previous_head
        if not forced and before is not None and self.tree.head == before and self.tree.is_clean():
            resume.drop_state(state.tree)

    def _ready(self, stack: Stack) -> Stack:
        if not stack.applied.complete:
            raise Refused(
                stack,
                f"{refusal(stack)}; the tree {self.tree.folder} has the others: `llt patches refresh --drop`",
            )
        return stack

    def _patch(self, state: State) -> Patch:
        return next(patch for patch in self.series.patches if patch.name == state.current)

    def _resolution(self, state: State) -> str:
        """The tree hash of what the person staged.

        Raises:
            Stopped: something is still to be done.
        """
        if why := self.tree.unfinished(state.target, state.rejects):
            raise self._stopped(state, why)
        staged = self.tree.staged_tree()
        if staged == self.git.tree_of(state.target):
            why = (
                f"nothing of the patch is staged in {self.tree.folder}: `git add` what it should change (if it is"
                f" not needed any more, use --abort and then --without {state.current})"
            )
            raise self._stopped(state, why)
        return staged

    def _first_step(self, state: State) -> str:
        if state.rejects:
            return (
                f"no three-way merge was possible; put in by hand what {listed(state.rejects)} in"
                f" {self.tree.folder} holds, `git add` the files, delete the .rej"
            )
        return f"mend the conflict in {listed(state.files)} in {self.tree.folder}, `git add` the file"

    def _stopped(self, state: State, why: str, known: Mapping[str, Touched] | None = None) -> Stopped:
        rest = self.series.patches[[patch.name for patch in self.series.patches].index(str(state.current)) :]
        outcomes = apply_series(self.git, state.target, rest).outcomes
        applied = resume.applied_of(self.git, state, self.series, outcomes)
        source = resume.source_of(self.git, state)
        if known is None:
            known = _history(self.upstream, self.source, source, applied)
        return Stopped(Stack(source, self.series, applied, self.tree.folder, known), state, why)


def _abort(tree: Tree, state: State) -> Aborted:
    resume.save_state(state.but(phase=Phase.ABORTING))
    tree.clear_stale(index=True)
    known = [commit for commit in (state.target, state.previous_head) if commit is not None]
    kept = tree.keep_work(*known)
    at = tree.head
    if at is not None and at not in known:
        tree.keep(at)
    tree.forget()
    for path in state.rejects:
        (tree.folder / path).unlink(missing_ok=True)
    if state.previous_head is None:
        tree.remove()
    else:
        tree.move(state.previous_head, forced=True)
        if state.previous_ref is not None:
            tree.put_on_branch(state.previous_ref, state.previous_head)
    resume.drop_state(tree.name)
    folder = tree.folder if state.previous_head is not None else None
    return Aborted(tree.name, folder, state.previous_head, kept)
