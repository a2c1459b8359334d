"""Upstream's objects: one bare repository under `LLT_HOME`, filled from wherever upstream can be reached.

Order: what the user names (`--source`: a repository, a bundle or a URL), the git remote, the npm bundle.
Whatever came is checked against the identities in `upstream.yaml` before a ref points at it; only then is
it used. A fetch never writes to a ref directly.

The pin is fetched before any other version: a three-way merge needs the files that the patches were made from,
and a remote that has the same pin then sends the history from there on, not just one snapshot.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput, CheckFailed, LltError, MissingTool
from llamacpp_tools.stack import lock as locks
from llamacpp_tools.stack.backup import keep
from llamacpp_tools.stack.git import Git, GitFailed
from llamacpp_tools.stack.npm import npm_bundle
from llamacpp_tools.stack.remote import bundle_ref, remote_commit
from llamacpp_tools.stack.upstream import Upstream, Version, is_full_hash

log = logging.getLogger(__name__)

FETCH_S = 900.0
_INCOMING = "refs/llt/incoming"
_LEFT_BY_A_KILLED_FETCH = (
    "shallow.lock",
    "packed-refs.lock",
    "refs/llt/incoming.lock",
    "refs/llt/upstream/*.lock",
)


@dataclass(frozen=True)
class Source:
    """A commit of upstream that is in the local repository and has been verified.

    Attributes:
        label: what the user calls it: a tag, or the reference that was asked for.
        commit: full commit hash in the local repository (of a squashed commit, if it came from a bundle).
        tree: full tree hash.
        origin: where it came from, in words, for people and for the manifest.
    """

    label: str
    commit: str
    tree: str
    origin: str


def repository() -> Git:
    """The bare repository that holds upstream's objects, made if it is not there."""
    folder = home.sources_dir() / "upstream.git"
    git = Git(folder)
    if not (folder / "HEAD").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        git.run("init", "--quiet", "--bare", "--initial-branch=llt", ".")
    return git


def obtain(upstream: Upstream, reference: str | None = None, source: str | None = None) -> Source:
    """Bring a version of upstream into the local repository and verify it.

    Args:
        upstream: what `upstream.yaml` says.
        reference: a known tag, or any tag, branch or commit, or the path of a clone (its HEAD) or of a bundle;
            the pin if None. A reference that is not a known version has no recorded identity: what came is said.
        source: a folder with a repository, a bundle file or a URL that is asked before anything else.

    Raises:
        CheckFailed: something came, but it is not the version that was asked for.
        MissingTool: nothing could be reached.
        BadInput: `source` or a path is not there, or does not know `reference`.
    """
    label = reference or upstream.pin
    if source is not None and not _is_url(source) and not Path(source).expanduser().exists():
        raise BadInput(f"--source {source}: no such folder or bundle file, and not a URL")
    if label != upstream.pin:
        pin_of(upstream, source)
    version = upstream.version(label)
    folder = repository().folder
    with locks.hold(home.sources_dir() / "upstream.lock", wait=True) as held:
        git = Git(folder, held.handle)
        if source is None and version is not None:
            known = _already_here(git, version)
            if known is not None:
                return known
        if version is None and is_full_hash(label) and git.resolve(label) == label:
            return Source(label, label, git.tree_of(label), "the local repository")
        locks.clear_stale(folder, _LEFT_BY_A_KILLED_FETCH)
        commit, origin = _fetch(git, upstream, label, version, source)
        found = Source(label, commit, git.tree_of(commit), origin)
        if version is not None:
            _verify(version, found)
            before = git.resolve(_ref(version))
            if before not in (None, commit):
                keep(git, f"upstream/{version.tag}", str(before))
            git.run("update-ref", _ref(version), commit)
            git.run("update-ref", "-d", _INCOMING)
    log.info("upstream %s: tree %s, from %s", label, found.tree[:12], origin)
    return found


def pin_of(upstream: Upstream, source: str | None = None) -> Source | None:
    """The pin beside another version, or None if it cannot be had: from here, from `source`, then as ever."""
    local = _already_here(repository(), upstream.pinned)
    if local is not None:
        return local
    refusals = []
    for place in (source, None) if source is not None else (None,):
        try:
            return obtain(upstream, None, place)
        except LltError as error:
            refusals.append(str(error))
    log.warning("the pin %s is not here, so nothing can be merged: %s", upstream.pin, refusals[-1])
    return None


def slug(label: str) -> str:
    """A folder's name for what was asked for: a path gives its last part and a digest of the whole."""
    if not is_place(label):
        return label.replace("/", "_")
    path = Path(label).expanduser().absolute()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def is_place(reference: str) -> bool:
    """True if the reference is a path: it looks like one, or a repository or a file of that name is there."""
    path = Path(reference).expanduser()
    return (
        reference.startswith(("/", "./", "../", "~"))
        or path.is_file()
        or (path / ".git").exists()
        or ((path / "HEAD").is_file() and (path / "objects").is_dir())
    )


def _is_url(source: str) -> bool:
    return "://" in source or source.startswith("git@")


def _ref(version: Version) -> str:
    return f"refs/llt/upstream/{version.tag}"


def _already_here(git: Git, version: Version) -> Source | None:
    commit = git.resolve(_ref(version))
    if commit is None:
        return None
    found = Source(version.tag, commit, git.tree_of(commit), "the local repository")
    _verify(version, found)
    return found


def _verify(version: Version, found: Source) -> None:
    if not any(identity.matches(found.commit, found.tree) for identity in version.identities):
        accepted = " or ".join(
            f"tree {identity.tree}" if identity.tree else f"a commit that begins with {identity.commit}"
            for identity in version.identities
        )
        raise CheckFailed(
            f"{found.origin} gave commit {found.commit[:12]} with tree {found.tree} for {version.tag}, but"
            f" upstream.yaml accepts only {accepted}: refused"
        )


def _fetch(
    git: Git, upstream: Upstream, label: str, version: Version | None, source: str | None
) -> tuple[str, str]:
    if source is not None and not is_place(label):
        return _from_named(git, source, label, is_known=version is not None), source
    if version is None and is_place(label):
        return _from_named(git, label, "HEAD", is_known=False), label
    refusals = []
    try:
        return _from_remote(git, upstream.remote, label, upstream.pinned), upstream.remote
    except (LltError, OSError) as error:
        refusals.append(f"the git remote: {error}")
    if version is not None and version.npm is not None:
        try:
            bundle = npm_bundle(version.npm)
            origin = f"npm {version.npm.package}@{version.npm.version}"
            return _from_bundle(git, bundle, label), origin
        except (LltError, OSError) as error:
            refusals.append(f"npm: {error}")
    elif version is None:
        local = git.resolve(label)
        if local is not None:
            return local, "the local repository"
        known = ", ".join(each.tag for each in upstream.versions)
        refusals.append(f"upstream.yaml knows only {known}, so no bundle of {label} is known either")
    raise MissingTool(
        f"upstream {label} could not be had ({'; '.join(refusals)}): name a clone or a bundle with --source"
    )


def _from_named(git: Git, source: str, label: str, *, is_known: bool) -> str:
    path = Path(source).expanduser()
    if path.is_file():
        return _from_bundle(git, path, label)
    if path.is_dir():
        there = Git(path.absolute())
        commit = there.resolve(label) or there.resolve(f"refs/tags/{label}")
        if commit is None and is_known:
            commit = there.resolve("HEAD")
        if commit is None:
            mend = "check out a commit there" if label == "HEAD" else "fetch the tag there first"
            raise BadInput(f"{source} is no repository that knows {label}: {mend}")
        _from_clone(git, there, commit, source)
        return commit
    if not _is_url(source):
        raise BadInput(f"{source}: no such folder or bundle file, and not a URL")
    try:
        return _from_remote(git, source, label)
    except MissingTool as error:
        raise MissingTool(f"--source {source} does not give {label}: {error}") from error


def _from_clone(git: Git, there: Git, commit: str, source: str) -> None:
    """The commit with its history; a shallow clone gives what it has, a blobless one is completed or refused."""
    try:
        git.run(
            "fetch", "--quiet", "--no-tags", "--update-shallow", "--no-write-fetch-head", "--",
            str(there.folder), f"+{commit}:{_INCOMING}", timeout_s=FETCH_S,
        )  # fmt: skip
    except GitFailed as error:
        promisor = there.run("config", "--get-regexp", r"^remote\..*\.promisor$", check=False).text
        if not promisor:
            raise
        # git serves nothing out of a partial clone that it would have to fetch first: ask the clone's own remote.
        url = there.text("config", "--get", promisor.split()[0].removesuffix(".promisor") + ".url")
        try:
            _fetch_into(git, url, commit, whole=False)
        except GitFailed:
            raise CheckFailed(
                f"{source} is a clone without all its files (--filter) and its remote does not give them:"
                " complete it there with `git fetch --refetch --no-filter`, or name another source"
            ) from error


def _from_remote(git: Git, url: str, label: str, pinned: Version | None = None) -> str:
    log.info("asking the git remote for %s", label)
    wanted = remote_commit(git, url, label)
    _fetch_into(git, url, wanted, whole=_shares_pin(git, url, label, pinned))
    commit = git.resolve(_INCOMING)
    assert commit is not None
    return commit


def _shares_pin(git: Git, url: str, label: str, pinned: Version | None) -> bool:
    """True if the remote's pin is the very commit that is here, so that it need only send what came after."""
    here = None if pinned is None or label == pinned.tag else git.resolve(_ref(pinned))
    if pinned is None or here is None:
        return False
    with contextlib.suppress(MissingTool):
        return remote_commit(git, url, pinned.tag) == here
    return False


def _fetch_into(git: Git, url: str, commit: str, *, whole: bool) -> None:
    depth = () if whole else ("--depth=1",)
    git.run(
        "fetch", "--quiet", "--no-tags", *depth, "--no-write-fetch-head", "--", url, f"+{commit}:{_INCOMING}",
        timeout_s=FETCH_S,
    )  # fmt: skip


def _from_bundle(git: Git, bundle: Path, label: str) -> str:
    ref = bundle_ref(git, bundle, label, only=True)
    where = str(bundle.absolute())
    git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", where, f"+{ref}:{_INCOMING}")
    commit = git.resolve(_INCOMING)
    assert commit is not None
    return commit
