"""`llt rebase`: upstream at the pin, the series on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llamacpp_tools.stack.rebase import Stack
    from llamacpp_tools.stack.series import Series
    from llamacpp_tools.stack.upstream import Upstream

Patches = Annotated[
    Path | None,
    typer.Option("--patches", help="Folder with series.yaml and upstream.yaml [default: llt's own]."),
]
Onto = Annotated[
    str | None, typer.Option("--onto", help="A known version, tag, branch or commit [default: the pin].")
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Where upstream comes from: a clone, a git bundle or a URL.")
]
Without = Annotated[list[str] | None, typer.Option("--without", help="Leave out this patch (repeatable).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def rebase(
    onto: Onto = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if a patch does not apply.")
    ] = False,
    source: SourceOption = None,
    patches: Patches = None,
    without: Without = None,
    json_output: Json = False,
) -> None:
    """Fetch upstream at the pin, apply the series, and leave a tree that is ready to build."""
    from llamacpp_tools.errors import CheckFailed
    from llamacpp_tools.stack import rebase as core

    upstream, series = load(patches, without)
    stack = core.check(upstream, series, onto, source)
    if json_output or not stack.applied.complete:
        _report(stack, check, json_output)
    if not stack.applied.complete:
        raise CheckFailed(core.refusal(stack))
    if not check:
        stack = core.rebase(upstream, series, onto, source)
    if not json_output:
        _report(stack, check, json_output)


def load(patches: Path | None, without: list[str] | None) -> tuple[Upstream, Series]:
    """The upstream file and the series of a patches folder, minus what is left out."""
    from llamacpp_tools import home
    from llamacpp_tools.stack.series import load_series
    from llamacpp_tools.stack.upstream import load_upstream

    folder = patches or home.shipped("patches")
    return load_upstream(folder), load_series(folder).leave_out(tuple(without or ()))


def _report(stack: Stack, check: bool, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json

    if json_output:
        print_json(document(stack, check))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"the series on {stack.source.label}", title_justify="left")
    for column in ("patch", "status", "files", "note"):
        table.add_column(column, overflow="fold")
    for outcome in stack.applied.outcomes:
        table.add_row(
            outcome.patch.name, str(outcome.status), str(len(outcome.patch.file.paths)), outcome.detail
        )
    console = Console()
    console.print(table)
    if stack.applied.complete:
        console.print(f"HEAD {stack.applied.head}", soft_wrap=True)
        console.print(f"series {stack.series.digest[:12]}, tree {stack.applied.tree[:12]}", soft_wrap=True)
    if stack.tree_dir:
        console.print(f"ready in {stack.tree_dir}", soft_wrap=True)


def document(stack: Stack, check: bool) -> dict[str, Any]:
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
        "tree": stack.applied.tree if stack.applied.complete else None,
        "checked_only": check,
        "patches": [
            {
                "name": outcome.patch.name,
                "file": outcome.patch.entry.file,
                "status": str(outcome.status),
                "commit": outcome.commit,
                "detail": outcome.detail,
            }
            for outcome in stack.applied.outcomes
        ],
    }
