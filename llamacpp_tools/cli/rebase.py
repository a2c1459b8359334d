"""`llt rebase`: upstream at the pin or another version, the series on top; stop, go on, go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llamacpp_tools.stack.apply import Outcome
    from llamacpp_tools.stack.series import Series
    from llamacpp_tools.stack.stack import Refused, Stack, Stopped
    from llamacpp_tools.stack.touched import Touched
    from llamacpp_tools.stack.upstream import Upstream

Patches = Annotated[
    Path | None,
    typer.Option("--patches", help="Folder with series.yaml and upstream.yaml [default: llt's own]."),
]
Onto = Annotated[
    str | None,
    typer.Option(
        "--onto",
        help="A known version, a tag, branch or commit, the path of a clone or of a bundle [default: the pin].",
    ),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Where upstream comes from: a clone, a git bundle or a URL.")
]
Without = Annotated[list[str] | None, typer.Option("--without", help="Leave out this patch (repeatable).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

_COMMITS_IN_THE_TABLE = 4


def rebase(
    onto: Onto = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if a patch does not apply.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Put the tree of a stopped rebase back to what it was.")
    ] = False,
    source: SourceOption = None,
    patches: Patches = None,
    without: Without = None,
    json_output: Json = False,
) -> None:
    """Fetch upstream at the pin, apply the series, and leave a tree that is ready to build.

    Where a patch conflicts, the tree is left with conflict markers: mend the files, `git add` them, and run the
    same command again. --abort goes back to what was. Exit code 1 unless every patch applies.
    """
    from llamacpp_tools.errors import BadInput, CheckFailed
    from llamacpp_tools.stack import stack as stacks
    from llamacpp_tools.stack.rebase import rebase as run

    upstream, series = load(patches, without)
    if check and abort:
        raise BadInput("--check and --abort exclude each other: --check changes nothing")
    if abort:
        _abort(upstream, series, onto, json_output)
        return
    try:
        if check:
            stack = stacks.check(upstream, series, onto, source)
            if not stack.applied.complete:
                raise stacks.Refused(stack, stacks.refusal(stack))
        else:
            stack = run(upstream, series, onto, source, stop=True)
    except stacks.Stopped as stopped:
        _report(stopped.stack, check, json_output, stopped)
        raise
    except stacks.Refused as refused:
        _report(refused.stack, check, json_output)
        raise CheckFailed(_in_short(refused)) from refused
    _report(stack, check, json_output)


def load(patches: Path | None, without: list[str] | None) -> tuple[Upstream, Series]:
    """The upstream file and the series of a patches folder, minus what is left out."""
    from llamacpp_tools import home
    from llamacpp_tools.stack.series import load_series, upstream_of

    series = load_series(patches or home.shipped("patches"))
    return upstream_of(series), series.leave_out(tuple(without or ()))


def _abort(upstream: Upstream, series: Series, onto: str | None, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.stack.rebase import abort

    back = abort(upstream, series, onto)
    if json_output:
        folder = str(back.tree_dir) if back.tree_dir else None
        print_json({"aborted": back.tree, "tree_dir": folder, "head": back.head, "kept": back.kept})
        return
    typer.echo(
        f"{back.tree_dir} is back at {back.head}"
        if back.tree_dir
        else f"the tree {back.tree} is removed: there was none before"
    )
    if back.kept:
        typer.echo(f"what lay in the tree is kept as {back.kept}")


def _report(stack: Stack, check: bool, json_output: bool, stopped: Stopped | None = None) -> None:
    from llamacpp_tools.cli.output import print_json

    if json_output:
        print_json(document(stack, check, stopped))
        return
    from rich.table import Table
    from rich.text import Text

    from llamacpp_tools.cli.output import stdout_console

    table = Table(title=Text(f"the series on {stack.source.label}"), title_justify="left")
    for column in ("patch", "status", "files", "note"):
        table.add_column(column, overflow="fold")
    for outcome in stack.applied.outcomes:
        files = str(len(outcome.patch.file.paths))
        table.add_row(outcome.patch.name, str(outcome.status), files, Text(_note(stack, outcome)))
    console = stdout_console()
    console.print(table)
    lines = []
    if stack.applied.complete:
        lines = [
            f"HEAD {stack.applied.head}",
            f"series head {stack.series_head}, the same wherever upstream came from",
            f"series {stack.series.digest[:12]}, tree {stack.applied.tree[:12]}",
        ]
    if stack.kept:
        lines.append(f"what was committed in the tree is kept as {stack.kept}")
    if stack.tree_dir and stack.applied.complete:
        lines.append(f"ready in {stack.tree_dir}")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _in_short(refused: Refused) -> str:
    stack = refused.stack
    failed = [outcome for outcome in stack.applied.outcomes if not outcome.status.applies]
    told = ", ".join(f"{outcome.patch.name} ({outcome.status})" for outcome in failed)
    mend = f"; {refused.mend}" if refused.mend else ""
    share = f"{len(failed)} of {len(stack.applied.outcomes)} patches"
    return f"{share} do not apply onto {stack.source.label}: {told}{mend}"


def _note(stack: Stack, outcome: Outcome) -> str:
    lines = [outcome.detail] if outcome.detail else []
    history = stack.touched.get(outcome.patch.name)
    if history is not None:
        lines += [f"upstream renamed {old} to {new}" for old, new in history.renamed]
        # Those that changed the hunks' own lines come first: they are the ones to read.
        commits = sorted(history.commits, key=lambda commit: not commit.in_hunks)
        lines += [
            f"{'in these hunks' if commit.in_hunks else 'in these files'}: {commit}"
            for commit in commits[:_COMMITS_IN_THE_TABLE]
        ]
        if len(commits) > _COMMITS_IN_THE_TABLE:
            lines.append(
                f"and {len(commits) - _COMMITS_IN_THE_TABLE} more upstream commits (--json has them)"
            )
        lines += [history.note] if history.note else []
    return "\n".join(lines)


def document(stack: Stack, check: bool, stopped: Stopped | None = None) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "upstream": stack.source.label,
        "origin": stack.source.origin,
        "upstream_commit": stack.source.commit,
        "upstream_tree": stack.source.tree,
        "series_digest": stack.series.digest,
        "without": list(stack.series.without),
        "complete": stack.applied.complete,
        "head": stack.applied.head if stack.applied.complete else None,
        "series_head": stack.series_head if stack.applied.complete else None,
        "tree": stack.applied.tree if stack.applied.complete else None,
        "checked_only": check,
        "tree_dir": str(stack.tree_dir) if stack.tree_dir else None,
        "kept": stack.kept,
        "stopped": None if stopped is None else {
            "patch": stopped.state.current,
            "files": list(stopped.state.files),
            "rejects": list(stopped.state.rejects),
            "next": stopped.why,
        },
        "patches": [_patch(outcome, stack.touched.get(outcome.patch.name)) for outcome in stack.applied.outcomes],
    }  # fmt: skip


def _patch(outcome: Outcome, history: Touched | None) -> dict[str, Any]:
    return {
        "name": outcome.patch.name,
        "file": outcome.patch.entry.file,
        "status": str(outcome.status),
        "commit": outcome.commit,
        "detail": outcome.detail,
        "failed": [
            {"path": file.path, "hunks": list(file.hunks), "reason": file.reason or None}
            for file in outcome.failed
        ],
        "blocked_by": list(outcome.blocked_by),
        "upstream_commits": None if history is None else [
            {
                "commit": commit.hash, "date": commit.date, "subject": commit.subject,
                "paths": list(commit.paths), "in_hunks": commit.in_hunks,
            }
            for commit in history.commits
        ],
        "upstream_renamed": {} if history is None else dict(history.renamed),
        "upstream_note": history.note or None if history is not None else None,
    }  # fmt: skip
