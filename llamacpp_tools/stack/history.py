"""The steps from the pin to a later version: upstream's commits where they can be had, else its snapshots.

Two kinds. `history`: every first-parent commit from the pin to the target, from a clone, a bundle or a git
remote. `snapshots`: the known versions of `upstream.yaml` from the pin on, each a squashed commit out of a
bundle. Both are a list of `Step` in one throw-away repository that borrows its objects, so whatever is
computed on them leaves nothing behind and needs no work tree.

A blobless source is refused, because the texts that patches meet are not in it, and a shallow one is refused
where its border lies between the pin and the target.
"""

from __future__ import annotations

import datetime
import enum
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput, CheckFailed, LltError, MissingTool
from llamacpp_tools.stack import lock as locks
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.remote import bundle_ref, remote_commit
from llamacpp_tools.stack.source import FETCH_S, is_place, obtain, repository
from llamacpp_tools.stack.upstream import Upstream, Version

log = logging.getLogger(__name__)

_TO = "refs/llt/history/to"
# Dates of commits are not strictly in order; a few days more cost little.
_SLACK = datetime.timedelta(days=5)


class Kind(enum.StrEnum):
    """What the steps are."""

    HISTORY = "history"
    SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class Step:
    """One state of upstream.

    Attributes:
        label: a tag for a snapshot and for the pin, else the commit's first 12 digits.
        commit: full hash in the throw-away repository; of a squashed commit, if it came from a bundle.
        tree: full tree hash.
        date: ISO day, as the commit or `upstream.yaml` has it.
        subject: first line of the commit's message; empty for a snapshot.
    """

    label: str
    commit: str
    tree: str
    date: str
    subject: str


@dataclass(frozen=True)
class History:
    """The steps in order, oldest (the pin) first, and the repository that holds them.

    Attributes:
        git: a throw-away repository; objects written to it are gone when `open_history` ends.
        steps: the pin and everything after it up to the target.
        kind: commits or snapshots.
        origin: where it came from, in words.
        note: why it is not the better kind; empty if it is.
    """

    git: Git
    steps: tuple[Step, ...]
    kind: Kind
    origin: str
    note: str = ""


@contextmanager
def open_history(upstream: Upstream, to: str | None = None, source: str | None = None) -> Iterator[History]:
    """The steps from the pin to `to`, for as long as the `with` block lasts.

    Without `source` the git remote is asked for commits; where it does not answer and `to` is a known version,
    the known versions serve.

    Args:
        upstream: what `upstream.yaml` says.
        to: a known version, tag, branch or commit, or the path of a clone (its HEAD); the last known version if None.
        source: a clone, a git bundle or a URL that holds the commits from the pin to `to`.

    Raises:
        BadInput: `to` is not there or not after the pin, or `source` is blobless or lacks the pin.
        CheckFailed: what came as a known version is not that version.
        MissingTool: nothing could be reached.
    """
    if to is not None and is_place(to):
        if source is not None:
            raise BadInput(f"--to {to} is a path: name the version with --to and the path with --source")
        to, source = "HEAD", to
    label = to or upstream.versions[-1].tag
    known = upstream.version(label)
    if known is not None and upstream.versions.index(known) < upstream.versions.index(upstream.pinned):
        raise BadInput(f"--to {label} lies before the pin {upstream.pin}: drift looks at what came after it")
    if source is not None:
        with _from_source(upstream, label, source) as found:
            yield found
        return
    try:
        store, commit = _fetch_history(upstream, upstream.remote, label)
    except LltError as error:
        if known is None:
            raise MissingTool(
                f"the commits up to {label} could not be had ({error}): name a clone with --source, or a known"
                f" version with --to ({', '.join(version.tag for version in upstream.versions)})"
            ) from error
        log.warning("no commits of upstream could be had, so the known versions serve: %s", error)
        with _snapshots(upstream, known, "the git remote gave no commits, so only known versions") as found:
            yield found
        return
    with _scratch([store]) as git:
        yield _commits(git, upstream, label, commit, upstream.remote)


@contextmanager
def _from_source(upstream: Upstream, label: str, source: str) -> Iterator[History]:
    path = Path(source).expanduser()
    if path.is_dir():
        there = Git(path.absolute())
        _refuse_blobless(there, source)
        with _scratch([there]) as git:
            yield _commits(git, upstream, label, _named(there, label, source), source)
    elif path.is_file():
        with _scratch([]) as git:
            yield _commits(git, upstream, label, _unbundle(git, path, label), source)
    elif "://" in source or source.startswith("git@"):
        store, commit = _fetch_history(upstream, source, label)
        with _scratch([store]) as git:
            yield _commits(git, upstream, label, commit, source)
    else:
        raise BadInput(f"--source {source}: no such folder or bundle file, and not a URL")


@contextmanager
def _snapshots(upstream: Upstream, last: Version, note: str) -> Iterator[History]:
    first = upstream.versions.index(upstream.pinned)
    versions = upstream.versions[first : upstream.versions.index(last) + 1]
    steps = []
    for version in versions:
        found = obtain(upstream, version.tag)
        steps.append(Step(version.tag, found.commit, found.tree, version.date.isoformat(), ""))
    with _scratch([repository()]) as git:
        yield History(git, tuple(steps), Kind.SNAPSHOTS, "the known versions in upstream.yaml", note)


@contextmanager
def _scratch(stores: Sequence[Git]) -> Iterator[Git]:
    """An empty bare repository that reads the objects of `stores` and writes its own, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="llt-drift-") as name:
        folder = Path(name) / "scratch.git"
        folder.mkdir()
        git = Git(folder)
        git.run("init", "--quiet", "--bare", "--initial-branch=llt", "--template=", ".")
        lent = [_git_path(store, "objects") for store in stores]
        (folder / "objects" / "info").mkdir(exist_ok=True)
        (folder / "objects" / "info" / "alternates").write_text("".join(f"{path}\n" for path in lent))
        for store in stores:
            border = _git_path(store, "shallow")
            if border.is_file():
                shutil.copyfile(border, folder / "shallow")
        yield git


def _git_path(git: Git, name: str) -> Path:
    return (git.folder / git.text("rev-parse", "--git-path", name)).resolve()


def _refuse_blobless(there: Git, source: str) -> None:
    if not there.run("rev-parse", "--git-dir", check=False).ok:
        raise BadInput(f"--source {source} is no git repository")
    keys = there.run("config", "--local", "--get-regexp", r"\.(promisor|partialclonefilter)$", check=False)
    if keys.text:
        raise BadInput(
            f"--source {source} is a partial clone ({keys.text.splitlines()[-1]}): the texts of older versions are"
            " not in it; name a full clone, or run `git fetch --refetch --no-filter` there first"
        )


def _named(there: Git, label: str, source: str) -> str:
    for name in (f"refs/tags/{label}", label, f"refs/remotes/origin/{label}"):
        commit = there.resolve(name)
        if commit is not None:
            return commit
    raise BadInput(
        f"--source {source} does not know {label}: fetch it there first, or name another with --to"
    )


def _unbundle(git: Git, bundle: Path, label: str) -> str:
    where, ref = str(bundle.absolute()), bundle_ref(git, bundle, label)
    git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", where, f"+{ref}:{_TO}")
    return git.text("rev-parse", f"{_TO}^{{commit}}")


def _fetch_history(upstream: Upstream, url: str, label: str) -> tuple[Git, str]:
    """The kept repository for histories, with the commits since the pin's day up to `label`, and the last of them."""
    folder = home.sources_dir() / "history.git"
    folder.mkdir(parents=True, exist_ok=True)
    with locks.hold(home.sources_dir() / "history.lock", wait=True) as held:
        git = Git(folder, held.handle)
        locks.clear_stale(folder, ("shallow.lock", "packed-refs.lock", f"{_TO}.lock"))
        if not (folder / "HEAD").is_file():
            git.run("init", "--quiet", "--bare", "--initial-branch=llt", ".")
        commit = remote_commit(git, url, label)
        since = (upstream.pinned.date - _SLACK).isoformat()
        log.warning("fetching the commits of %s since %s", label, since)
        git.run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", f"--shallow-since={since}", "--", url,
            f"+{commit}:{_TO}", timeout_s=FETCH_S,
        )  # fmt: skip
        # Asked under the lock: the next llt may fetch another label here.
        return Git(folder), git.text("rev-parse", f"{_TO}^{{commit}}")


def _commits(git: Git, upstream: Upstream, label: str, target: str, origin: str) -> History:
    """The first-parent chain from the pin, which is found by what `upstream.yaml` knows it by, to `target`."""
    chain = git.run("log", "--first-parent", "--format=%H%x1f%T%x1f%cs%x1f%s", target)
    lines = chain.stdout.decode("utf-8", "replace").splitlines()
    steps = [Step(row[0][:12], *row) for row in (line.split("\x1f", 3) for line in lines)]
    _verify(upstream, label, steps[0], origin)
    matches = [
        index
        for index, step in enumerate(steps)
        if any(identity.matches(step.commit, step.tree) for identity in upstream.pinned.identities)
    ]
    if not matches:
        raise BadInput(_no_pin(git, upstream, label, origin, len(steps)))
    exact = [index for index in matches if _is_named(upstream.pinned, steps[index])]
    # A revert can bring the pin's tree back; the oldest commit with it is the one that was pinned.
    at = (exact or matches)[-1]
    pin = steps[at]
    ordered = [Step(upstream.pin, pin.commit, pin.tree, pin.date, pin.subject), *reversed(steps[:at])]
    return History(git, tuple(ordered), Kind.HISTORY, origin)


def _is_named(version: Version, step: Step) -> bool:
    return any(each.commit is not None and step.commit.startswith(each.commit) for each in version.identities)


def _verify(upstream: Upstream, label: str, step: Step, origin: str) -> None:
    known = upstream.version(label)
    if known is not None and not any(each.matches(step.commit, step.tree) for each in known.identities):
        raise CheckFailed(
            f"{origin} gave commit {step.label} with tree {step.tree} for {label}, but upstream.yaml knows {label}"
            " by another identity: refused"
        )


def _no_pin(git: Git, upstream: Upstream, label: str, origin: str, count: int) -> str:
    shallow = git.text("rev-parse", "--is-shallow-repository") == "true"
    reason = (
        f"it is shallow: its {count} commits end before they reach the pin; run `git fetch --unshallow` there"
        if shallow
        else f"none of the {count} commits that lead to {label} is the pin; name a clone with upstream's history"
    )
    return f"{origin} has no history from the pin {upstream.pin} to {label}: {reason}"
