"""`llt patches`: the series with its reasons, its audit, and its files written again from the tree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamacpp_tools.cli.rebase import Json, Patches, SourceOption

if TYPE_CHECKING:
    from llamacpp_tools.stack.audit import Audit
    from llamacpp_tools.stack.refresh import Refreshed
    from llamacpp_tools.stack.series import Series

app = typer.Typer(
    no_args_is_help=True,
    help="The patch series: what is in it and why (list), is it sound (audit), write it again (refresh).",
    epilog="Example: llt patches audit",
    rich_markup_mode=None,
)


def _folder(patches: Path | None) -> Path:
    from llamacpp_tools import home

    return patches or home.shipped("patches")


@app.command("list", epilog="Example: llt patches list --json")
def list_patches(patches: Patches = None, json_output: Json = False) -> None:
    """Show each patch: why it exists, what upstream says, when it goes, what it may touch, what proves it."""
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.stack.series import load_series

    series = load_series(_folder(patches))
    if json_output:
        print_json(_series_document(series))
        return
    from rich.table import Table

    from llamacpp_tools.cli.output import stdout_console

    console = stdout_console()
    reaches = series.reaches or "not recorded"
    console.print(f"{series.folder}: for {series.upstream}, reaches {reaches}", markup=False)
    console.print(f"series head {series.head or 'not recorded'}", soft_wrap=True)
    for patch in series.patches:
        entry = patch.entry
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in (
            ("file", entry.file), ("why", entry.why), ("upstream", "\n".join(entry.upstream) or "none"),
            ("drop when", entry.drop_when), ("paths", "\n".join(entry.paths)), ("check", entry.check),
        ):  # fmt: skip
            table.add_row(f"  {key}", _plain(value))
        console.print(f"\n{entry.name}", markup=False)
        console.print(table)
    for gone in series.dropped:
        console.print(f"\ndropped at {gone.upstream}: {gone.name}, {gone.reason}", markup=False)


def _plain(value: str) -> Any:
    from rich.text import Text

    return Text(value)


def _series_document(series: Series) -> dict[str, Any]:
    return {
        "folder": str(series.folder),
        "upstream": series.upstream,
        "reaches": series.reaches,
        "head": series.head,
        "series_digest": series.digest,
        "patches": [
            {
                "name": entry.name,
                "file": entry.file,
                "why": entry.why,
                "upstream": list(entry.upstream),
                "drop_when": entry.drop_when,
                "paths": list(entry.paths),
                "check": entry.check,
                "hunks": len(patch.file.hunks),
            }
            for patch in series.patches
            for entry in [patch.entry]
        ],
        "dropped": [gone.model_dump() for gone in series.dropped],
    }


@app.command(epilog="Example: llt patches audit --patches patches")
def audit(source: SourceOption = None, patches: Patches = None, json_output: Json = False) -> None:
    """Say everything that is wrong with the series; exit code 1 if anything is.

    The text of each file (hunk counts, binary, links, paths, CR LF, mail header, stable form), then what git
    makes of it at the version it is for: no fuzz and no offset, only the declared paths, the same bytes when
    exported again, the recorded HEAD.
    """
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.errors import CheckFailed
    from llamacpp_tools.stack.audit import audit as core
    from llamacpp_tools.stack.series import upstream_folder
    from llamacpp_tools.stack.upstream import load_upstream

    folder = _folder(patches)
    verdict = core(load_upstream(upstream_folder(folder)), folder, source)
    if json_output:
        print_json(_audit_document(verdict))
    else:
        for finding in verdict.findings:
            typer.echo(str(finding))
    if not verdict.good:
        count = len(verdict.findings)
        raise CheckFailed(f"{folder}: {count} finding{'' if count == 1 else 's'}")
    if not json_output:
        typer.echo(
            f"{len(verdict.patches)} patches are sound on {verdict.upstream}; series head {verdict.head}"
        )


def _audit_document(verdict: Audit) -> dict[str, Any]:
    return {
        "folder": str(verdict.folder),
        "good": verdict.good,
        "upstream": verdict.upstream,
        "head": verdict.head,
        "patches": list(verdict.patches),
        "findings": [
            {"rule": str(each.rule), "file": each.file, "line": each.line or None, "text": each.text}
            for each in verdict.findings
        ],
    }


@app.command(
    epilog="Example: llt patches refresh --drop amx-tile-config --reason 'upstream stores all 64 bytes'"
)
def refresh(
    onto: Annotated[
        str | None,
        typer.Option("--onto", help="Read the tree of this version [default: the one the series is for]."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write to this folder; the series' own files stay.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="Take this patch out of the series (repeatable).")
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", help="Why it goes; kept in series.yaml under `dropped`.")
    ] = "",
    source: SourceOption = None,
    patches: Patches = None,
    json_output: Json = False,
) -> None:
    """Write the patch files again from the tree that `llt rebase` made and named (under LLT_HOME/trees).

    Everything in the tree has to be committed. To change a patch, amend its commit; to add one, commit there: the
    subject names the file and the body becomes `why` in series.yaml, where the rest is left for you to fill in.
    Files whose commit did not change stay the same to the byte. No patch leaves the series without --drop.
    """
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.stack.refresh import Wish, recover
    from llamacpp_tools.stack.refresh import refresh as core
    from llamacpp_tools.stack.series import load_series, upstream_of

    folder = _folder(patches)
    recover(folder, source)
    series = load_series(folder)
    wish = Wish(onto, source, tuple(drop or ()), reason, out)
    done = core(upstream_of(series), series, wish)
    if json_output:
        print_json(_refresh_document(done))
    else:
        _say(done)


def _say(done: Refreshed) -> None:
    for file, what in done.files:
        typer.echo(f"{what:<9} {file}")
    if done.range_diff:
        typer.echo(f"\nold commits against new (git range-diff):\n{done.range_diff}")
    typer.echo(f"\n{done.folder} is for {done.upstream}; series head {done.head}")
    if done.to_fill_in:
        typer.echo(
            f"next: write what is marked FILL IN for {', '.join(done.to_fill_in)} in"
            f" {done.folder / 'series.yaml'}, then run {done.audit}"
        )
    if any(what == "dropped" for _, what in done.files):
        typer.echo(
            "git sees only text: build before you commit, in case a patch calls what the dropped one defined"
        )


def _refresh_document(done: Refreshed) -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "upstream": done.upstream,
        "tree_dir": str(done.tree_dir),
        "head": done.head,
        "changed": done.changed,
        "files": [{"file": file, "status": what} for file, what in done.files],
        "range_diff": done.range_diff,
        "to_fill_in": list(done.to_fill_in),
    }
