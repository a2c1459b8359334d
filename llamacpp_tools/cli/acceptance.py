"""`llt acceptance`: what the MTP block drafts by class of text and by lookahead, and which drafts would pay."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llamacpp_tools.acceptance.lab import Asked
    from llamacpp_tools.results.schema import Document


# What also fits a result that is only shown again.
_SHOWING = ("source", "pairs", "markdown", "json_output")


class Switch(StrEnum):
    """On or off."""

    on = "on"
    off = "off"


class Row(StrEnum):
    """Which hidden row a draft is made from."""

    after = "after-norm"
    before = "before-norm"


def acceptance(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A GGUF file with an MTP head, or `miniature`; or a result of this command, to show it again.",
        ),
    ],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="factual, thinking, code, instruction, log, prose, extraction or analysis; repeatable [default: all].",
        ),
    ] = None,
    texts: Annotated[
        list[Path] | None, typer.Option("--text", help="A text file of your own; repeatable.")
    ] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Tokens of prompt.")] = 2048,
    lookahead: Annotated[
        int,
        typer.Option(
            "--lookahead", min=1, max=32, help="Tokens drafted at each position, one after the other."
        ),
    ] = 4,
    n_predict: Annotated[
        int, typer.Option("--n-predict", min=16, help="Positions of each text to draft at.")
    ] = 200,
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="A sliding window of so many tokens.")
    ] = None,
    full_layers: Annotated[
        str, typer.Option("--full-layers", help="With --window, the layers that stay full, e.g. 27,31,35,39.")
    ] = "",
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=1000, help="Of what is timed.")] = 3,
    backend: Annotated[str, typer.Option("--backend", help="cpu, vulkan or cuda.")] = "cpu",
    build: Annotated[str, typer.Option("--build", help="Its variant: patched or stock.")] = "patched",
    context: Annotated[
        list[str] | None,
        typer.Option("--context", help="A key of a sweep file's `context`, e.g. threads=1; repeatable."),
    ] = None,
    ballast_weights: Annotated[
        str | None, typer.Option("--ballast-weights", help="Of the miniature, e.g. 400MB.")
    ] = None,
    ballast_kv: Annotated[
        int | None, typer.Option("--ballast-kv", min=0, help="Of the miniature, elements a token.")
    ] = None,
    mtp: Annotated[
        Switch, typer.Option("--mtp", help="off: plain decode alone, to tell whether a fault is MTP's.")
    ] = Switch.on,
    draft_history: Annotated[
        Switch,
        typer.Option("--draft-history", help="off: each draft sees its own pair alone, not the text before."),
    ] = Switch.on,
    hidden_row: Annotated[
        Row,
        typer.Option(
            "--hidden-row",
            help="The row that drafts are made from; llama.cpp gives the one after the final norm, the other is it "
            "with the norm's weights divided out.",
        ),
    ] = Row.after,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Decode each text with drafts of --lookahead, too, and compare tokens."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The result file [default: results/acceptance-TIME.json].")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--fresh", help="Go on with --out, or with the newest result: measure the rest."
        ),
    ] = False,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Write each drafted token and what came, with texts, one JSON a line."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables as Markdown, too.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Draft at every token of plain greedy texts, and say which drafts come true and which would pay.

    The texts are those of plain decode: every draft is noted and dropped. What a step with each draft length costs is
    measured beside them, so the verdict holds for this machine, model and depth. Four tokens ahead are one more than
    llama-server drafts by default, so it shows whether a longer draft would pay; past a lookahead at which little comes
    true there is nothing to see.
    """
    from llamacpp_tools.acceptance.lab import Asked

    path = Path(source)
    _check_pairs(pairs, mtp)
    if path.suffix == ".json":
        _check_only_shown(ctx, path)
        result = _shown_again(path)
    else:
        ballast = {
            name: value
            for name, value in (("ballast_weights", ballast_weights), ("ballast_kv", ballast_kv))
            if value is not None
        }
        asked = Asked(
            source, ballast, classes or (), texts or (), depth, lookahead, n_predict, window,
            _layers(full_layers), backend, build, rounds, mtp is Switch.on, verify, draft_history is Switch.on,
            hidden_row is Row.before, _context(context or ()),
        )  # fmt: skip
        result, path = _measure(asked, out, resume, _command(ctx, source))
    if pairs is not None:
        from llamacpp_tools.acceptance.pairs import write_pairs

        count = write_pairs(pairs, result)
        typer.echo(f"pairs: {count} in {pairs}", err=True)
    if markdown is not None:
        _write_markdown(markdown, result)
    if json_output:
        from llamacpp_tools.cli.output import print_json

        assert result.acceptance is not None
        print_json({"result": str(path), **result.acceptance.model_dump(mode="json")})
    else:
        _print(result, path)
    _fail_where_tokens_differ(result)


def _check_pairs(pairs: Path | None, mtp: Switch) -> None:
    """What can be said of --pairs before anything is measured."""
    from llamacpp_tools.errors import BadInput

    if pairs is None:
        return
    if mtp is Switch.off:
        raise BadInput(
            "without MTP nothing is drafted, so there are no pairs; leave --pairs out, or --mtp off"
        )
    if pairs.exists():
        raise BadInput(f"{pairs} exists already: give --pairs another name, or remove it")


def _layers(text: str) -> tuple[int, ...]:
    from llamacpp_tools.errors import BadInput

    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError:
        raise BadInput(f"--full-layers takes numbers such as 27,31, not {text}") from None


def _context(words: Sequence[str]) -> dict[str, Any]:
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.sweep.yamlfile import value_of

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BadInput(f"--context takes KEY=VALUE such as threads=1, not {word}")
        found[name] = value_of(value, f"--context {name}")
    return found


def _check_only_shown(ctx: typer.Context, path: Path) -> None:
    from llamacpp_tools.errors import BadInput

    for parameter in ctx.command.params:
        if parameter.name not in _SHOWING and _is_typed(ctx, parameter.name):
            raise BadInput(
                f"{path} is a result already and nothing is measured: leave {parameter.opts[0]} out, or name a model"
            )


def _shown_again(path: Path) -> Document:
    from llamacpp_tools.acceptance.judge import judge
    from llamacpp_tools.results.derive import derive
    from llamacpp_tools.results.document import read

    found = read(path)
    return found.model_copy(update={"acceptance": judge(found), **derive(found)._asdict()})


def _command(ctx: typer.Context, source: str) -> str:
    """What was typed, without what is of this machine: folders, and where things are written."""
    words = ["llt", "acceptance", Path(source).name]
    for parameter in ctx.command.params:
        if parameter.name in (*_SHOWING, "out", "resume") or not _is_typed(ctx, parameter.name):
            continue
        value = ctx.params[parameter.name or ""]
        for each in value if isinstance(value, list | tuple) else (value,):
            words.append(parameter.opts[0])
            if not isinstance(each, bool):
                words.append(Path(each).name if isinstance(each, Path) else str(each))
    return shlex.join(words)


def _is_typed(ctx: typer.Context, name: str | None) -> bool:
    source = ctx.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"


def _measure(asked: Asked, out: Path | None, resume: bool, command: str) -> tuple[Document, Path]:
    import datetime

    from llamacpp_tools.acceptance.judge import judge
    from llamacpp_tools.acceptance.lab import cells, check_goes_on, what
    from llamacpp_tools.cli.output import file_progress
    from llamacpp_tools.cli.sweepbars import bars
    from llamacpp_tools.errors import Interrupted
    from llamacpp_tools.results.document import read, write
    from llamacpp_tools.results.measure import Options, Stopped, measure, ready
    from llamacpp_tools.results.record import choose_path, path_to_go_on

    planned = cells(asked)
    now = datetime.datetime.now(datetime.UTC)
    name = planned.config.name
    path = path_to_go_on(out, name) if resume else choose_path(out, name, now)
    if resume:
        check_goes_on(read(path) if path.is_file() else None, planned, path)
    parts = ready(planned, file_progress)
    try:
        found = measure(planned, parts, path, bars, Options(), now)
    except Stopped as stopped:
        if isinstance(stopped.why, Interrupted):
            again = f"the same command with --resume --out {shlex.quote(str(path))} goes on"
            raise Interrupted(f"{stopped.why}; {again}") from None
        raise stopped.why from None
    found = found.model_copy(update={"what": what(asked, planned), "acceptance": judge(found, command)})
    write(path, found)
    return found, path


def _write_markdown(path: Path, result: Document) -> None:
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.files import write_text_atomic
    from llamacpp_tools.report.lookahead import markdown

    try:
        write_text_atomic(path, markdown(result))
    except OSError as error:
        raise BadInput(f"the tables cannot be written to {path}: {error.strerror}") from None


def _print(result: Document, path: Path) -> None:
    from llamacpp_tools.acceptance.grids import grids
    from llamacpp_tools.acceptance.notes import notes
    from llamacpp_tools.cli.gridtable import grid_table
    from llamacpp_tools.cli.output import stdout_console

    assert result.acceptance is not None
    console = stdout_console()
    for grid in grids(result.acceptance):
        console.print(grid_table(grid))
        console.print()
    for sentence in notes(result):
        typer.echo(f"note: {sentence}")
    typer.echo(f"result: {path}")


def _fail_where_tokens_differ(result: Document) -> None:
    from llamacpp_tools.errors import CheckFailed

    bad = [cell for cell in result.cells if cell.status != "ok"]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise CheckFailed(f"{bad[0].id}: {bad[0].status}: {bad[0].reason}{more}")
