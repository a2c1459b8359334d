"""`llt patches audit`: everything that can be wrong with the series, all of it, in one verdict.

`load_series` stops at the first problem, because it guards what is applied next. This reads on: first the text
of `series.yaml` and of each file, then what git makes of them on the version they are written for: applied
without fuzz and without an offset, exported again to the same bytes, and ending at the recorded HEAD.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml

from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.stack.apply import Applied, Outcome, apply_series
from llamacpp_tools.stack.export import changed_paths, export, form_problems, portable_base
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.patchfile import PatchFile, patch_bytes, scan_patch
from llamacpp_tools.stack.series import Entry, Patch, SeriesFile, repeats, strays, undeclared
from llamacpp_tools.stack.seriesedit import FILL_IN
from llamacpp_tools.stack.source import obtain, repository
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.upstream import Upstream, is_full_hash


class Rule(enum.StrEnum):
    """What a finding is about."""

    SERIES = "series.yaml"
    FILL_IN = "fill-in"
    STRAY = "stray"
    COUNT = "hunk-count"
    BINARY = "binary"
    SYMLINK = "symlink"
    PATH = "path"
    UNDECLARED = "undeclared-path"
    CRLF = "crlf"
    EMPTY = "empty"
    FORM = "form"
    APPLY = "apply"
    EXPORT = "re-export"
    HEAD = "head"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the rule, the file it is in, its 1-based line (0: the whole file), a sentence."""

    rule: Rule
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.text} [{self.rule}]"


@dataclass(frozen=True)
class Audit:
    """The verdict.

    Attributes:
        folder: the patches folder.
        upstream: the version on which the series was tried.
        patches: names of the entries, in order.
        head: the commit that the series gives there, None if it could not be applied in full.
        findings: all that is wrong; empty if the series is good.
    """

    folder: Path
    upstream: str
    patches: tuple[str, ...]
    head: str | None
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """True if nothing is wrong."""
        return not self.findings


def audit(upstream: Upstream, folder: Path, source: str | None = None) -> Audit:
    """Check the series in `folder` in full; nothing but git objects is written.

    Raises:
        BadInput: there is no `series.yaml`, or it is not YAML at all.
        LltError: upstream's source could not be had and the text alone shows nothing wrong.
    """
    listed, entries, findings = _read(folder, upstream)
    patches, broken = [], []
    for entry in entries:
        patch, found = _text(folder, entry)
        findings += found
        if patch is not None and not any(finding.rule in _UNSAFE for finding in found):
            patches.append(patch)
        else:
            broken.append(entry.name)
    findings += [
        Finding(Rule.STRAY, name, 0, "is not named in series.yaml: add an entry or remove the file")
        for name in strays(folder, entries)
    ]
    label = listed.upstream if listed else upstream.pin
    head = None
    if patches:
        try:
            tree = obtain(upstream, label, source).tree
        except LltError as error:
            if not findings:
                raise
            findings.append(Finding(Rule.APPLY, "series.yaml", 0, f"was not applied: {error}"))
        else:
            head = _apply(repository(), tree, patches, broken, findings)
    if head is not None and listed is not None:
        findings += _head(listed, label, head)
    return Audit(folder, label, tuple(entry.name for entry in entries), head, tuple(findings))


# A file with one of these is not shown to git: it would be misread, or lead out of the tree.
_UNSAFE = (Rule.COUNT, Rule.BINARY, Rule.SYMLINK, Rule.PATH, Rule.CRLF, Rule.EMPTY)


def _read(folder: Path, upstream: Upstream) -> tuple[SeriesFile | None, list[Entry], list[Finding]]:
    """What `series.yaml` says; of a file with mistakes, the entries that are right, and every mistake."""
    path = folder / "series.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing: name the folder that holds it with --patches") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        listed = SeriesFile.model_validate(raw)
    except pydantic.ValidationError as error:
        findings = [
            Finding(Rule.SERIES, "series.yaml", 0, f"{_place(raw, said['loc'])}: {said['msg']}")
            for said in error.errors()
        ]
        return None, list(_right_entries(raw)), findings
    return listed, list(listed.patches), list(_meaning(folder, listed, upstream))


def _place(raw: Any, where: tuple[int | str, ...]) -> str:
    """`patches.1.why` with the patch's name in place of its number, where it has one."""
    parts = list(where)
    if len(parts) > 1 and parts[0] == "patches" and isinstance(parts[1], int):
        entry = raw["patches"][parts[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        parts[:2] = [f"patch {name or parts[1] + 1}"]
    return ".".join(str(part) for part in parts) or "the document"


def _right_entries(raw: Any) -> Iterator[Entry]:
    listed = raw.get("patches") if isinstance(raw, dict) else None
    for entry in listed if isinstance(listed, list) else []:
        try:
            yield Entry.model_validate(entry)
        except pydantic.ValidationError:
            continue


def _meaning(folder: Path, listed: SeriesFile, upstream: Upstream) -> Iterator[Finding]:
    for value in repeats(listed.patches):
        yield Finding(Rule.SERIES, "series.yaml", 0, f"{value} is named twice")
    if (folder / "upstream.yaml").is_file() and listed.upstream != upstream.pin:
        text = f"upstream: is {listed.upstream}, but the pin is {upstream.pin}: rebase onto it and refresh"
        yield Finding(Rule.SERIES, "series.yaml", 0, text)
    for key, version in (("upstream", listed.upstream), ("reaches", listed.reaches)):
        is_commit = key == "upstream" and is_full_hash(listed.upstream)
        if version is not None and upstream.version(version) is None and not is_commit:
            text = (
                f"{key}: {version} is neither a commit nor a version that upstream.yaml knows: add it there"
            )
            yield Finding(Rule.SERIES, "series.yaml", 0, text)
    for entry in listed.patches:
        texts = {"why": entry.why, "drop_when": entry.drop_when, "check": entry.check}
        texts |= {"upstream": " ".join(entry.upstream)}
        for key, value in texts.items():
            if FILL_IN in value or not value.strip():
                text = f"{entry.name}: `{key}` is still to be written by a person"
                text += " (`none` if upstream says nothing)" if key == "upstream" else ""
                yield Finding(Rule.FILL_IN, "series.yaml", 0, text)
    for entry in listed.patches:
        for gone in listed.dropped:
            if gone.name == entry.name:
                text = f"{entry.name} is among the patches and among the dropped ones"
                yield Finding(Rule.SERIES, "series.yaml", 0, text)


def _text(folder: Path, entry: Entry) -> tuple[Patch | None, list[Finding]]:
    """What the bytes of one file show, before git sees them."""
    path = folder / entry.file
    try:
        raw = patch_bytes(path)
    except BadInput as error:
        return None, [Finding(Rule.SERIES, entry.file, 0, str(error))]
    file, problems = scan_patch(path, raw)
    findings = [
        Finding(Rule(problem.trap.value), entry.file, problem.line, problem.text) for problem in problems
    ]
    findings += [Finding(Rule.FORM, entry.file, line, text) for line, text in form_problems(raw)]
    findings += _undeclared(entry, file)
    return Patch(entry, file), findings


def _undeclared(entry: Entry, file: PatchFile) -> list[Finding]:
    return [
        Finding(
            Rule.UNDECLARED,
            entry.file,
            _line_of(file.raw, path),
            f"touches {path}, which series.yaml does not declare for {entry.name}",
        )
        for path in undeclared(entry, file.paths)
    ]


def _line_of(raw: bytes, path: str) -> int:
    at = raw.find(b"\ndiff --git a/" + path.encode())
    return raw.count(b"\n", 0, at + 1) + 1 if at >= 0 else 0


def _apply(
    git: Git, tree: str, patches: Sequence[Patch], broken: Sequence[str], findings: list[Finding]
) -> str | None:
    """Apply what can be applied, add what that shows to `findings`, and return the HEAD of the whole series."""
    usable = []
    for patch in patches:
        # A header without author or date is told by its form; git cannot make a commit of it.
        if any(
            f.rule is Rule.FORM and "mail header" in f.text and f.file == patch.entry.file for f in findings
        ):
            broken = [*broken, patch.name]
        else:
            usable.append(patch)
    applied = apply_series(git, portable_base(git, tree), usable)
    for outcome in applied.outcomes:
        findings += _outcome(git, applied, outcome, broken)
    return applied.head if applied.complete and not broken else None


def _outcome(git: Git, applied: Applied, outcome: Outcome, broken: Sequence[str]) -> Iterator[Finding]:
    entry, file = outcome.patch.entry, outcome.patch.file
    if outcome.status is not Status.CLEAN:
        without = f" (tried without {', '.join(broken)}, whose text is broken)" if broken else ""
        said = f": {outcome.detail}" if outcome.detail else ""
        yield Finding(Rule.APPLY, entry.file, 0, f"is not clean there but {outcome.status}{said}{without}")
    if outcome.commit is None:
        return
    hidden = [path for path in changed_paths(git, outcome.commit) if path not in file.paths]
    for path in undeclared(entry, hidden):
        text = f"changes {path}, which its headers hide and series.yaml does not declare"
        yield Finding(Rule.UNDECLARED, entry.file, 0, text)
    # Without an earlier patch the blobs differ, and an offset differs by itself: neither is news.
    if outcome.status is Status.CLEAN and applied.complete and not broken:
        again = export(git, outcome.commit)
        if again != file.raw:
            line = _first_difference(again, file.raw)
            text = "its commit exports to other bytes, first here: run `llt patches refresh`"
            yield Finding(Rule.EXPORT, entry.file, line, text)


def _first_difference(one: bytes, two: bytes) -> int:
    pairs = zip(one.split(b"\n"), two.split(b"\n"), strict=False)
    return next((number for number, (a, b) in enumerate(pairs, start=1) if a != b), two.count(b"\n") + 1)


def _head(listed: SeriesFile, label: str, head: str) -> list[Finding]:
    if listed.head == head:
        return []
    if listed.head is None:
        text = f"records no head: the series gives {head} on {label}; refresh writes it"
    else:
        text = (
            f"records head {listed.head}, but the series gives {head} on {label}: if the patches are meant to"
            " differ, `llt patches refresh` records it"
        )
    return [Finding(Rule.HEAD, "series.yaml", 0, text)]
