"""`llt report`: a result as tables, Markdown, CSV, charts, one page, or llama-bench's rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from llamacpp_tools.report.render import Form
    from llamacpp_tools.report.story import Story

FORMS = "table, md, csv, json, png, svg, html, llama-bench-jsonl, llama-bench-sql"


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="Result files of `llt sweep` or `llt acceptance`.")
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", "-f", help=f"{FORMS} [default: by the name of --out, else table]."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write it [default: stdout; for png, svg and html a file beside the result].",
        ),
    ] = None,
    by_mode: Annotated[
        bool,
        typer.Option(
            "--by-mode", help="In llama-bench's rows the mode is the build, so that modes can be compared."
        ),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, the same as --format json.")
    ] = False,
) -> None:
    """Show what RESULT says: the fastest mode, a table per depth and workload, findings, caveats.

    Several results stand one after the other, each under its own heading. docs/reading-a-result.md says what each
    column means.
    """
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.report.render import Form
    from llamacpp_tools.report.story import stories

    wanted = _form(form, out, json_output)
    if by_mode and wanted not in (Form.LLAMA_BENCH_JSONL, Form.LLAMA_BENCH_SQL):
        raise BadInput(f"--by-mode is for --format llama-bench-jsonl or llama-bench-sql, not {wanted}")
    told = stories(results)
    if out is None and wanted is Form.TABLE:
        from llamacpp_tools.cli.output import stdout_console

        _print(stdout_console(), told)
    elif out is None and not wanted.needs_file:
        from llamacpp_tools.report.render import text

        sys.stdout.write(text(told, wanted, by_mode))
    else:
        _write(told, wanted, out, by_mode)


def _form(asked: str | None, out: Path | None, json_output: bool) -> Form:
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.report.render import Form, form_of

    if json_output:
        if asked not in (None, "json"):
            raise BadInput(f"--json and --format {asked} are two forms; name one")
        return Form.JSON
    if asked is not None:
        if asked not in list(Form):
            raise BadInput(f"there is no form {asked}; --format takes {FORMS}")
        return Form(asked)
    if out is None or out.is_dir():
        return Form.TABLE
    found = form_of(out)
    if found is None:
        raise BadInput(f"the name {out} does not say what to write; give a form with --format: {FORMS}")
    return found


def _write(told: Sequence[Story], form: Form, out: Path | None, by_mode: bool) -> None:
    from llamacpp_tools.files import write_atomic, write_text_atomic
    from llamacpp_tools.report.render import Form, image, places, text

    where = places(told, form, out)
    if form in (Form.PNG, Form.SVG):
        for story, path in zip(told, where, strict=True):
            drawn = image(story, form)
            with write_atomic(path) as part:
                part.write_bytes(drawn)
    else:
        write_text_atomic(where[0], _as_text(told) if form is Form.TABLE else text(told, form, by_mode))
    for path in where:
        typer.echo(f"report: {path}", err=True)


def _as_text(told: Sequence[Story]) -> str:
    import io

    from rich.console import Console

    from llamacpp_tools.cli.output import WIDE

    out = io.StringIO()
    _print(Console(file=out, width=WIDE), told)
    return out.getvalue()


def _print(console: Console, told: Sequence[Story]) -> None:
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    from llamacpp_tools.cli.gridtable import grid_table
    from llamacpp_tools.results.table import TwoByTwo, plain

    def say(words: str, style: str) -> None:
        console.print(Text(plain(words), style=style))

    def items(head: str, sentences: Sequence[str]) -> None:
        if sentences:
            say(head, style="bold")
            grid = Table.grid(padding=(0, 1))
            for sentence in sentences:
                grid.add_row(" -", Text(plain(sentence)))
            console.print(grid)
            console.print()

    for story in told:
        result = story.result
        console.print(Rule(Text(story.name, style="bold"), align="left", characters="="))
        say(
            ", ".join(part for part in (result.model, result.box, result.backend, result.date) if part),
            style="dim",
        )
        console.print()
        for grid in story.lab:
            console.print(grid_table(grid))
            console.print()
        items("Fastest", [_verdict(story, at) for at in range(len(story.verdicts))])
        for sheet in story.sheets:
            console.print(TwoByTwo(sheet))
            console.print()
        if any(line.own or line.own_prefill for sheet in story.sheets for line in sheet.lines):
            say(
                "MTP's gain and MTP's prefill compare a mode with the same mode without the draft: "
                "dense + MTP with dense, SWA + MTP with SWA only.",
                style="dim",
            )
            console.print()
        items("What to use", story.rule)
        items("Findings", story.findings)
        items("Without figures", [trouble.sentence for trouble in story.troubles])
        items("Caveats", story.caveats)


def _verdict(story: Story, at: int) -> str:
    found = story.verdicts[at]
    gain = found.gain
    over = f", {gain.percent} over dense" + (f" ({gain.span})" if gain.span else "") if gain else ""
    remark = f"; {found.remark}" if found.remark else ""
    return f"{found.sheet.group.label}: {found.line.name}, {found.line.decode} t/s{over}{remark}"
