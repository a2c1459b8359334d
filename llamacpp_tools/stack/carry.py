"""One rebase of one tree, step by step: begun, stopped, gone on with, put back.

Each step is journaled (`stack.resume`) before it is taken (`stack.worktree`). Whoever calls holds the tree's lock.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack import resume
from llamacpp_tools.stack.apply import Applied, Outcome, apply_series, commit_tree, split_mail
from llamacpp_tools.stack.resume import Phase, State
from llamacpp_tools.stack.series import Patch, Series
from llamacpp_tools.stack.source import repository
from llamacpp_tools.stack.stack import Aborted, Refused, Stack, Stopped, failures_history, refusal
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.touched import Touched
from llamacpp_tools.stack.upstream import Upstream
from llamacpp_tools.stack.worktree import Tree, listed

log = logging.getLogger(__name__)


class Carry:
    """One rebase of one tree, whose lock is held."""

    def __init__(self, tree: Tree, upstream: Upstream, series: Series, source: str | None) -> None:
        self.tree = tree
        self.upstream = upstream
        self.series = series
        self.source = source
        self.git = repository()
        # What was checked out and is not of our making: a person's own commits.
        self.own: str | None = None

    def recover(self, stop: bool) -> State | None:
        """Finish what a killed run left; the state that is still to go on from, or None to begin afresh."""
        state = resume.load_state(self.tree.name)
        if state is None:
            return None
        if state.phase is Phase.ABORTING:
            put_back(self.tree, state)
            return None
        if state.phase is Phase.MOVING:
            self.tree.clear_stale(index=True)
            kept = self._kept_of_a_person(state)
            self._finish(state, forced=True)
            if kept is not None:
                log.warning(
                    "what lay in %s, of a run that was cut short or yours, is kept as %s",
                    self.tree.name,
                    kept,
                )
            return None
        if not stop:
            raise CheckFailed(
                f"a rebase of {self.tree.name} is stopped at {state.current}: finish it with"
                f" {self.series.command('rebase', self._onto(state.label))}, or go back with the same and --abort"
            )
        if state.series_digest != self.series.digest:
            raise CheckFailed(
                f"the patches are not those that the rebase of {self.tree.name} began with, which lay in"
                f" {state.folder or 'another folder'} (series {state.series_digest[:12]}, now"
                f" {self.series.digest[:12]}): put them back to go on, or go back with --abort"
            )
        return state

    def _kept_of_a_person(self, state: State) -> str | None:
        """Keep what lies in the tree and is neither what it was before nor what it is to be; the reference."""
        kept = self.tree.keep_work(state.target)
        at = self.tree.head
        if kept is None and at is not None and at not in (state.previous_head, state.target):
            kept = self.tree.keep(at)
        return kept

    def start(self, stack: Stack) -> Stack:
        """Put the result of a check into the tree, or stop at its first failure."""
        self.tree.require_clean()
        before = self.tree.head
        begun = State(
            self.tree.name, stack.source.label, stack.source.origin, stack.source.commit, self.series.digest,
            Phase.MOVING, stack.source.commit,
            previous_head=before, previous_ref=self.tree.branch if before else None,
            folder=str(self.series.folder.resolve()),
        )  # fmt: skip
        self._look_for_own(before)
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
        self._look_for_own(state.previous_head)
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
        return self._ready(Stack(stack.source, self.series, applied, self.tree.folder))

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
        if self.own not in (None, stack.applied.head):
            stack = replace(stack, kept=self.tree.keep(str(self.own)))
        if not stack.applied.complete:
            taken = [each.patch.name for each in stack.applied.outcomes if not each.status.applies]
            what = f"{' '.join(f'--drop {name}' for name in taken)} --reason TEXT"
            refresh = self.series.refresh_command(self.upstream.pin, stack.source.label, what)
            mend = f"the tree {self.tree.folder} has the others: write the files of those with {refresh}"
            raise Refused(stack, refusal(stack), mend)
        return stack

    def _look_for_own(self, before: str | None) -> None:
        record = resume.read_record(self.tree.name)
        self.own = None if record is not None and before == record.head else before

    def _onto(self, label: str) -> str | None:
        return None if label == self.upstream.pin else label

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
        marked = [path for path in state.files if f"{path}.rej" not in state.rejects]
        steps = []
        if marked:
            steps.append(f"mend the conflict in {listed(marked)} in {self.tree.folder}, `git add` the file")
        if state.rejects:
            steps.append(
                f"put in by hand what {listed(state.rejects)} in {self.tree.folder} holds (no three-way merge was"
                " possible), `git add` the files, delete the .rej"
            )
        return "; then ".join(steps)

    def _stopped(self, state: State, why: str, known: Mapping[str, Touched] | None = None) -> Stopped:
        rest = self.series.patches[[patch.name for patch in self.series.patches].index(str(state.current)) :]
        outcomes = apply_series(self.git, state.target, rest).outcomes
        applied = resume.applied_of(self.git, state, self.series, outcomes)
        source = resume.source_of(self.git, state)
        if known is None:
            known = failures_history(self.upstream, self.source, source, applied)
        return Stopped(Stack(source, self.series, applied, self.tree.folder, known), state, why)


def put_back(tree: Tree, state: State) -> Aborted:
    """Undo a rebase: HEAD, index and files as its journal says they were; what a person did is kept."""
    resume.save_state(state.but(phase=Phase.ABORTING))
    tree.clear_stale(index=True)
    known = [commit for commit in (state.target, state.previous_head) if commit is not None]
    kept = tree.keep_work(*known)
    at = tree.head
    if at is not None and at not in known:
        kept = tree.keep(at) if kept is None else kept
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
