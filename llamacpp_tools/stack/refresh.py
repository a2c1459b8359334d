"""`llt patches refresh`: the patch files and `series.yaml` written again from the commits of a tree.

Everything is worked out and tried in memory first: the new texts are applied to upstream's commit, must give
the tree's own content, and must export to the same bytes again. Only then are files written, all of
them as one step (`stack.rewrite`). At the end the tree is put on the commits that the
new files give, which hold the same content, so that the next refresh and the next rebase begin from there.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack import resume, rewrite
from llamacpp_tools.stack.apply import Applied, apply_series
from llamacpp_tools.stack.assign import assign
from llamacpp_tools.stack.export import (
    changed_paths,
    commits_between,
    export,
    portable_head,
    range_diff,
    subject,
)
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.lock import hold
from llamacpp_tools.stack.patchfile import parse_patch
from llamacpp_tools.stack.reapply import Reapplied, reapply
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.resume import Record
from llamacpp_tools.stack.series import Entry, Patch, Series, load_series, undeclared, upstream_of
from llamacpp_tools.stack.seriesedit import FILL_IN, drop_entry, insert_entry, remove_value, set_value
from llamacpp_tools.stack.source import Source, obtain, repository, slug
from llamacpp_tools.stack.stack import Refused
from llamacpp_tools.stack.upstream import Upstream

log = logging.getLogger(__name__)

_SLUG_LENGTH = 48
_TRAILER = re.compile(r"^(Signed-off-by|Co-authored-by|Reviewed-by|Tested-by|Change-Id): ", re.IGNORECASE)


@dataclass(frozen=True)
class Wish:
    """What is asked of a refresh.

    Attributes:
        onto: the version whose tree is read; None for the one that the series is for.
        source: where upstream comes from, see `source.obtain`.
        drop: names of patches to take out.
        reason: why, written into `series.yaml`.
        out: a folder for the files, None for the series' own.
    """

    onto: str | None = None
    source: str | None = None
    drop: tuple[str, ...] = ()
    reason: str = ""
    out: Path | None = None


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        folder: where the files are.
        upstream: the version that they are for now; a commit if it has no name that `upstream.yaml` knows.
        tree_dir: the tree that they were read from.
        head: the commit that the whole series gives, as recorded (`export.portable_head`).
        files: (file name, "unchanged", "copied" (unchanged, into `out`), "changed", "new" or "dropped"), in the
            order of the series.
        range_diff: git's comparison of the old commits with the new; empty if every file is unchanged.
        to_fill_in: names of new patches whose entry a person has to finish.
        audit: the command line that audits the folder.
    """

    folder: Path
    upstream: str
    tree_dir: Path
    head: str
    files: tuple[tuple[str, str], ...]
    range_diff: str
    to_fill_in: tuple[str, ...]
    audit: str = ""

    @property
    def changed(self) -> bool:
        """True if any file is not what it was."""
        return any(what not in ("unchanged", "copied") for _, what in self.files)


def refresh(upstream: Upstream, series: Series, wish: Wish | None = None) -> Refreshed:
    """Write the series again from its tree.

    Raises:
        BadInput: a wish that makes no sense: an unknown name, no reason, a folder that is taken.
        CheckFailed: the tree cannot be taken as it is (no tree, uncommitted changes, a patch without a commit, a
            file that its entry does not declare, a message that does not survive); nothing was written.
        LltError: upstream's source could not be had.
    """
    wish = wish or Wish()
    label = _checked_label(upstream, series, wish)
    tree_dir = _tree_dir(upstream, series, label, wish)
    with hold(home.trees_dir() / f"{tree_dir.name}.lock", wait=False):
        record = resume.read_record(tree_dir.name)
        _require_ready(tree_dir, series)
        _require_own(tree_dir, series, record)
        git = Git(tree_dir)
        found = obtain(upstream, label, wish.source)
        base = record.base if record is not None else found.commit
        before = _before(upstream, series, found, wish)
        patches = _patches(git, series, record, before, base, wish)
        after = reapply(git, base, patches, wish.drop)
        # A branch or a path names something else tomorrow: what the files are for is the commit.
        version = label if upstream.version(label) is not None else base
        refreshed = _write(git, series, wish, label, version, before, after, tree_dir)
    if found.commit == base:
        rebase(upstream, load_series(refreshed.folder), label, wish.source)
    rewrite.settle(refreshed.folder)
    return refreshed


def recover(folder: Path, source: str | None = None) -> None:
    """Finish a refresh of `folder` that was killed after it had begun to write; else do nothing.

    Raises:
        CheckFailed: the tree, whose commits the files have by now, has changes of its own since.
    """
    rewrite.finish(folder)
    noted = rewrite.pending(folder)
    if noted is None:
        return
    log.warning("a refresh of %s was cut short; its files are written", folder)
    then = json.loads(noted)
    tree_dir = home.trees_dir() / then["tree"]
    # A tree that has moved on since holds what a person did there: it is theirs, and the next to be read.
    is_as_read = tree_dir.is_dir() and Git(tree_dir).resolve("HEAD") == then["head"]
    if is_as_read or resume.load_state(then["tree"]) is not None:
        series = load_series(folder)
        try:
            rebase(upstream_of(series), series, then["label"], source)
        except Refused as error:
            log.warning("the tree %s stays as it is: %s", tree_dir, error)
    rewrite.settle(folder)


def _checked_label(upstream: Upstream, series: Series, wish: Wish) -> str:
    at_home = (series.folder / "upstream.yaml").is_file()
    label = wish.onto or (upstream.pin if at_home or not series.upstream else series.upstream)
    names = [patch.name for patch in series.patches]
    for name in wish.drop:
        if any(gone.name == name for gone in series.dropped):
            raise BadInput(
                f"{name} is dropped already: `dropped` in {series.folder / 'series.yaml'} has the reason"
            )
        if name not in names:
            raise BadInput(f"no patch {name!r} in {series.folder}; the series has {', '.join(names)}")
    if wish.drop and not wish.reason.strip():
        raise BadInput("--drop needs --reason TEXT: series.yaml keeps why a patch went")
    if wish.reason.strip() and not wish.drop:
        raise BadInput("--reason goes with --drop NAME: name the patch that goes")
    if wish.out is None and label not in (upstream.pin, series.upstream):
        raise BadInput(
            f"{series.folder} is for {series.upstream or upstream.pin}: name another folder for the files of"
            f" {label} with --out, as `--out {series.folder / slug(label)}`"
        )
    if wish.out is not None and wish.out.exists() and not wish.out.is_dir():
        raise BadInput(f"--out {wish.out} is a file: name a folder")
    if wish.out is not None and (wish.out / "series.yaml").exists():
        raise BadInput(f"{wish.out} has a series already: refresh that one with --patches {wish.out}")
    return label


def _tree_dir(upstream: Upstream, series: Series, label: str, wish: Wish) -> Path:
    without = "".join(f"-without-{patch.name}" for patch in series.patches if patch.name in wish.drop)
    for name in (f"patched-{slug(label)}", f"patched{without}-{slug(label)}"):
        if (home.trees_dir() / name / ".git").exists():
            return home.trees_dir() / name
    onto = None if label == upstream.pin else label
    raise CheckFailed(f"there is no tree for {label} yet: make it with {series.command('rebase', onto)}")


def _require_own(tree_dir: Path, series: Series, record: Record | None) -> None:
    """Refuse a tree that holds another series: its commits would be taken for patches of this one."""
    if record is not None and record.folder not in ("", str(series.folder.resolve())):
        raise CheckFailed(
            f"the tree {tree_dir} was made from the series in {record.folder}: name that one with --patches, or put"
            f" this one into the tree first with {series.command('rebase')}"
        )


def _require_ready(tree_dir: Path, series: Series) -> None:
    state = resume.load_state(tree_dir.name)
    if state is not None:
        what = "was cut short" if state.current is None else f"is stopped at {state.current}"
        raise CheckFailed(
            f"a rebase of {tree_dir} {what}: finish it with {series.command('rebase', state.label)}"
        )
    # Untracked files count: one that was never added would be missing from the patch.
    left = [line[3:] for line in Git(tree_dir).text("status", "--porcelain").splitlines()]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise CheckFailed(
            f"the tree {tree_dir} has changes that are not committed ({', '.join(left[:3])}{more}): commit them"
            " there (a commit is a patch), amend a patch's own commit, or discard them, then run again"
        )


def _before(upstream: Upstream, series: Series, found: Source, wish: Wish) -> Applied:
    """The files as they are, on the version that they are for."""
    own = series.upstream if upstream.version(series.upstream) is not None else found.label
    source = found if own == found.label else obtain(upstream, own, wish.source)
    return apply_series(repository(), source.commit, series.patches)


def _patches(
    git: Git, series: Series, record: Record | None, before: Applied, base: str, wish: Wish
) -> list[Patch]:
    """The new series: a patch for each commit that stays, its text exported, its entry the old or a new one."""
    known = {each.patch.name: each.commit for each in before.outcomes if each.commit is not None}
    old = dict(known)
    known |= dict(record.commits) if record is not None else {}
    commits = commits_between(git, base, git.text("rev-parse", "HEAD"))
    names = assign(git, series, known, commits, wish.drop)
    _refuse_missing(git, series, record, base, names, wish)
    patches: list[Patch] = []
    entries = {patch.name: patch for patch in series.patches}
    for commit, name in zip(commits, names, strict=True):
        if name in wish.drop:
            continue
        raw = export(git, commit)
        if name is None:
            entry = _new_entry(git, commit, series, [patch.entry for patch in patches])
        else:
            _refuse_stale(series, entries[name], record, old.get(name), raw)
            entry = entries[name].entry
        file = parse_patch(series.folder / entry.file, raw)
        for path in undeclared(entry, file.paths):
            raise CheckFailed(
                f"the commit {commit[:12]} ({entry.name}) touches {path}, which series.yaml does not declare for"
                f" it: add `- {path}` to its paths, or take the change out of the commit"
            )
        patches.append(Patch(entry, file))
    if not patches:
        raise CheckFailed("no patch would be left: a series needs one, so build with --variant stock instead")
    return patches


def _refuse_missing(
    git: Git, series: Series, record: Record | None, base: str, names: Sequence[str | None], wish: Wish
) -> None:
    missing = [
        patch.name for patch in series.patches if patch.name not in names and patch.name not in wish.drop
    ]
    if not missing:
        return
    tried = apply_series(git, base, series.patches)
    taken = {each.patch.name for each in tried.outcomes if each.status == "already upstream"}
    taken |= set(record.upstream_has) if record is not None else set()
    told = "; ".join(
        f"{name} ({'upstream has this change already' if name in taken else 'its commit is gone'})"
        for name in missing
    )
    mend = "" if set(missing) <= taken else f"bring it back with {series.command('rebase')}, or "
    drop = series.command(
        f"patches refresh {' '.join(f'--drop {name}' for name in missing)} --reason TEXT", wish.onto, wish.out
    )
    raise CheckFailed(f"the tree has no commit for {told}: {mend}take it out of the series with {drop}")


def _refuse_stale(series: Series, patch: Patch, record: Record | None, old: str | None, raw: bytes) -> None:
    """A file that someone changed after the tree was made must not be overwritten from the tree."""
    if record is None or record.series_digest == series.digest or raw == patch.file.raw:
        return
    if old is not None and record.commits.get(patch.name) == old:
        return
    raise CheckFailed(
        f"{patch.file.path} was changed after the tree was made: run {series.command('rebase')} to put the files in"
        " (its own commits are kept under refs/llt/backup/), then make your change there again"
    )


def _new_entry(git: Git, commit: str, series: Series, before: Sequence[Entry]) -> Entry:
    """An entry for a commit that no patch is known for; what only a person can say is left to fill in."""
    entries = [*(patch.entry for patch in series.patches), *before]
    files = [entry.file for entry in entries] + [gone.file for gone in series.dropped]
    number = 1 + max((int(file[:4]) for file in files), default=0)
    title = subject(git, commit)
    paths = changed_paths(git, commit)
    if not paths:
        raise CheckFailed(f"the commit {commit[:12]} ({title}) changes no file: take it out of the tree")
    stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:_SLUG_LENGTH].strip("-") or "patch"
    taken = {entry.name for entry in entries} | {gone.name for gone in series.dropped}
    name = stem if stem not in taken else f"{stem}-{number}"
    body = git.text("show", "--no-patch", "--format=%b", commit).splitlines()
    why = " ".join(" ".join(line for line in body if not _TRAILER.match(line)).split())
    return Entry(
        file=f"{number:04d}-{stem}.patch",
        name=name,
        why=why or f"{FILL_IN}: what breaks or is missing without it",
        upstream=(f"{FILL_IN}: where upstream talks about it, or none",),
        drop_when=f"{FILL_IN}: the condition under which it goes",
        paths=tuple(paths),
        check=f"{FILL_IN}: what proves that it still does its work",
    )


def _write(
    git: Git,
    series: Series,
    wish: Wish,
    label: str,
    version: str,
    before: Applied,
    after: Reapplied,
    tree_dir: Path,
) -> Refreshed:
    folder = wish.out or series.folder
    head = portable_head(repository(), after.applied)
    files = [(patch.entry.file, _what(patch, series, wish)) for patch in after.patches]
    files += [(patch.entry.file, "dropped") for patch in series.patches if patch.name in wish.drop]
    texts = {patch.entry.file: patch.file.raw for patch in after.patches}
    texts["series.yaml"] = _series_text(series, wish, version, after.patches, head).encode()
    gone = [] if wish.out else [patch.entry.file for patch in series.patches if patch.name in wish.drop]
    then = {"label": label, "tree": tree_dir.name, "head": git.text("rev-parse", "HEAD")}
    rewrite.replace_all(folder, texts, gone, json.dumps(then))
    changed = any(what not in ("unchanged", "copied") for _, what in files)
    known = {patch.name for patch in series.patches}
    return Refreshed(
        folder, version, tree_dir, head, tuple(files),
        range_diff(repository(), before, after.applied) if changed else "",
        tuple(patch.name for patch in after.patches if patch.name not in known),
        replace(series, folder=folder).command("patches audit"),
    )  # fmt: skip


def _what(patch: Patch, series: Series, wish: Wish) -> str:
    """What became of a file, against the text that the series had, wherever that lay."""
    old = next((each for each in series.patches if each.name == patch.name), None)
    if old is None:
        return "new"
    if old.file.raw != patch.file.raw:
        return "changed"
    return "unchanged" if wish.out is None else "copied"


def _series_text(series: Series, wish: Wish, version: str, patches: Sequence[Patch], head: str) -> str:
    text = (series.folder / "series.yaml").read_text(encoding="utf-8")
    known = {patch.name for patch in series.patches}
    after = None
    for patch in patches:
        if patch.name not in known:
            text = insert_entry(text, patch.entry, after)
        after = patch.name
    for name in wish.drop:
        text = drop_entry(text, name, wish.reason, version)
    if series.upstream != version:
        text = set_value(text, "upstream", version)
        # How far the old texts reach says nothing of these.
        text = remove_value(text, "reaches") if series.reaches is not None else text
    return text if series.head == head else set_value(text, "head", head)
