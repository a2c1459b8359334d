"""`llt rebase`: upstream at a version, the series on top, and a work tree that is ready to build.

A check and a real run apply the series in memory first (`stack.apply`); only then is the tree touched, each
step journaled before it is taken (`stack.resume`). So a run that was killed is finished by the next one, a
run that stopped at a conflict goes on from there, and `abort` puts back what was.
"""

from __future__ import annotations

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack import resume
from llamacpp_tools.stack.carry import Carry, put_back
from llamacpp_tools.stack.lock import hold
from llamacpp_tools.stack.series import Series
from llamacpp_tools.stack.source import slug
from llamacpp_tools.stack.stack import Aborted, Refused, Stack, check, refusal
from llamacpp_tools.stack.upstream import Upstream
from llamacpp_tools.stack.worktree import Tree


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
        run = Carry(Tree(name, lock), upstream, series, source)
        state = run.recover(stop)
        if state is not None:
            return run.go_on(state)
        stack = check(upstream, series, onto, source)
        if not stack.applied.complete:
            known = resume.recorded(name, stack.source.commit, series)
            by_hand = known is not None and run.is_at(known[1])
            if known is not None and by_hand and stop:
                return run.resolved(stack, known[0])
            statuses = [each.status for each in stack.applied.outcomes]
            if not (stop and any(status.stops or status.applies for status in statuses)):
                refresh = series.refresh_command(upstream.pin, stack.source.label)
                mend = f"{run.tree.folder} has them resolved by hand: {refresh}" if by_hand else ""
                raise Refused(stack, refusal(stack), mend)
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
            others = (
                f"; under way: {', '.join(stopped)} (name its version with --onto, what it leaves out with --without)"
                if stopped
                else ""
            )
            raise BadInput(f"no rebase of {name} is under way{others}")
        return put_back(Tree(name, lock), state)


def _name(series: Series, label: str) -> str:
    variant = "patched" if series.patches else "stock"
    left_out = "".join(f"-without-{name}" for name in series.without) if series.patches else ""
    return f"{variant}{left_out}-{slug(label)}"
