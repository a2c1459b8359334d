"""`llt advise`: which levers to use, why, and the command line of the server that uses them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from llamacpp_tools.advise.advice import Advice, Choice
    from llamacpp_tools.advise.estimate import Estimate
    from llamacpp_tools.results.schema import Document

MODEL = "MODEL.gguf"


def advise(
    result: Annotated[
        Path, typer.Argument(help="A result file of `llt sweep`, or published figures in its form.")
    ],
    costs: Annotated[
        Path | None,
        typer.Option(
            "--costs", help="A result with forced cells [default: RESULT.costs.json, if it is there]."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure first what a step with a draft of each length costs here, and keep it beside RESULT.",
        ),
    ] = False,
    longest: Annotated[
        int, typer.Option("--longest", min=1, max=32, help="With --measure, the longest draft.")
    ] = 8,
    model: Annotated[
        Path | None, typer.Option("--model", help="With --measure, where the model lies now.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option("--box", help="What this box measured, of a result that several boxes made."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Say which levers pay for which texts, from what was measured."""
    from llamacpp_tools.advise.advice import advise as decide
    from llamacpp_tools.advise.measure import check_same, costs_beside, lacking
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.results.boxes import of_one_box
    from llamacpp_tools.results.document import read

    found = of_one_box(read(result), box)
    if costs is not None:
        known: Document | None = read(costs)
        check_same(found, read(costs), costs)
    else:
        known = None if measure else costs_beside(result, found, box)
    if measure:
        if costs is not None:
            raise BadInput("--measure writes the costs and --costs reads them; leave one out")
        known = _measure(result, found, longest, model, box)
    advice = decide(found, [known] if known is not None else [])
    if not advice.choices:
        raise BadInput(
            f"{result} has no cell without MTP that could be measured, so there is nothing to compare with"
        )
    name = found.provenance.model_filename or MODEL
    if json_output:
        from llamacpp_tools.advise.document import as_json
        from llamacpp_tools.cli.output import print_json

        print_json({"result": str(result), **as_json(advice, name)})
        return
    _print(advice, name)
    if found.provenance.source == "measured" and lacking(found, known):
        here = f" --box {box}" if box else ""
        typer.echo(f"note: for every draft length: llt advise {result} --measure{here}")


def _measure(path: Path, result: Document, longest: int, model: Path | None, box: str | None) -> Document:
    from llamacpp_tools.advise.measure import check_here, check_same, costs_config, costs_path
    from llamacpp_tools.cli.output import file_progress
    from llamacpp_tools.cli.sweepbars import bars
    from llamacpp_tools.errors import Interrupted
    from llamacpp_tools.results.measure import Options, Stopped, measure, ready
    from llamacpp_tools.sweep.plan import plan

    config = costs_config(result, longest)
    if model is not None:
        config = config.model_copy(update={"model": str(model)})
    planned, where = plan(config), costs_path(path, box)
    parts = ready(planned, file_progress)
    check_here(result, parts)
    try:
        found = measure(planned, parts, where, bars, Options())
    except Stopped as stopped:
        if isinstance(stopped.why, Interrupted):
            raise Interrupted("stopped; run the same command again to go on") from None
        raise stopped.why from None
    check_same(result, found, where)
    return found


def _print(advice: Advice, model: str) -> None:
    from llamacpp_tools.advise.sentences import cautions, rule
    from llamacpp_tools.advise.server import server_command
    from llamacpp_tools.cli.output import stdout_console

    console = stdout_console()
    if advice.curves:
        console.print(_costs_table(advice))
    console.print(_gains_table(advice))
    for sentence in rule(advice):
        typer.echo(f"- {sentence}")
    typer.echo()
    for sentence in cautions(advice):
        typer.echo(f"note: {sentence}")
    commands: dict[str, list[str]] = {}
    for choice in advice.choices:
        command = server_command(choice.best, choice.setting.any_cell, model)
        commands.setdefault(command, []).append(choice.setting.label)
    for command, labels in commands.items():
        typer.echo(f"\n{'; '.join(labels)}:\n  {command}")


def _costs_table(advice: Advice) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title="what a step costs", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("depth", "recipe", "draft"):
        table.add_column(name, overflow="fold")
    for name in ("over a plain token", "draft ms", "verify ms", "break-even acceptance"):
        table.add_column(name, justify="right")
    for curve in advice.curves:
        parts = {part.n_max: part for part in curve.costs.parts}
        for n_max in sorted({*curve.costs.ratios, *curve.costs.lengths}):
            ratio, part = curve.costs.ratio(n_max), parts.get(n_max)
            table.add_row(
                str(curve.n_depth),
                curve.recipe.label,
                str(n_max) if n_max else "0, idle",
                _with_span(ratio),
                f"{part.draft_ms:.2f}" if part else "-",
                f"{part.verify_ms:.2f}" if part else "-",
                _with_span(curve.costs.break_even(n_max)) if n_max else "-",
            )
        table.add_section()
    return table


def _with_span(estimate: Estimate) -> str:
    low, high = estimate.interval or (None, None)
    span = f" ({low:.2f} to {high:.2f})" if low is not None else ""
    return f"{estimate.value:.2f}{span}"


def _gains_table(advice: Advice) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title="what to use, and what it gains",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("depth", "text", "recipe", "n_max"):
        table.add_column(name, overflow="fold")
    for name in ("over no MTP", "over the reference", "acceptance", "break-even"):
        table.add_column(name, justify="right")
    for choice in advice.choices:
        for row in _gain_rows(choice):
            table.add_row(*row)
        table.add_section()
    table.caption = "* the one to use; the reference is the first row of a text"
    table.caption_justify = "left"
    return table


def _gain_rows(choice: Choice) -> list[list[str]]:
    from llamacpp_tools.advise.sentences import percent

    rows = []
    for recipe in dict.fromkeys(option.recipe for option in choice.options):
        plain, best = choice.of(recipe)[0], choice.best_draft(recipe)
        for option in [plain, *([best] if best is not None else [])]:
            is_reference = recipe == choice.reference and not option.n_max
            rows.append(
                [
                    str(choice.setting.n_depth),
                    choice.setting.workload,
                    recipe.label,
                    (str(option.n_max) if option.n_max else "no MTP")
                    + (" *" if option == choice.best else ""),
                    percent(option.own) if option.n_max else "-",
                    "-" if is_reference else percent(option.gain),
                    f"{option.acceptance:.3f}" if option.acceptance is not None else "-",
                    f"{option.break_even.value:.2f}" if option.break_even is not None else "-",
                ]
            )
    return rows
