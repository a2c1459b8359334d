"""`llt sweep`: run the matrix of a sweep file, print its tables, say where the result lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llamacpp_tools.build.manifest import Build
    from llamacpp_tools.results.schema import Document
    from llamacpp_tools.sweep.config import SweepConfig
    from llamacpp_tools.sweep.outcome import CellOutcome
    from llamacpp_tools.sweep.plan import Plan
    from llamacpp_tools.sweep.runner import CellSink, ProgressSink


def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep file; configs/ holds some to copy.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="A GGUF file, in place of the one the sweep file names.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The result file, which must not be there yet [default: results/NAME-TIME.json]."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Measure every cell of CONFIG and write one result file."""
    from llamacpp_tools.sweep.configfile import load_config
    from llamacpp_tools.sweep.plan import plan

    settings = load_config(config, model, need_model=not dry_run)
    planned = plan(settings)
    if dry_run:
        unchecked = _check_without_running(planned)
        _print_plan(planned, json_output)
        if unchecked and not json_output:
            typer.echo(unchecked)
        return
    for sentence in settings.unheeded:
        typer.echo(sentence, err=True)
    result, path = _measure(planned, out)
    _print_result(result, path, json_output)


def _measure(planned: Plan, out: Path | None) -> tuple[Document, Path]:
    import datetime

    from llamacpp_tools.errors import BadInput, Interrupted
    from llamacpp_tools.results.provenance import provenance
    from llamacpp_tools.results.record import Record, choose_path
    from llamacpp_tools.sweep.executor import LocalExecutor
    from llamacpp_tools.sweep.runner import run
    from llamacpp_tools.workloads import MEASURED_SEED

    now = datetime.datetime.now(datetime.UTC)
    path = choose_path(out, planned.config.name, now)
    build, model = _ready(planned)
    executor = LocalExecutor(model.absolute(), build.path, MEASURED_SEED)
    record = Record(path, planned, provenance(build.data, model), now)
    try:
        with _progress(planned) as (on_event, on_cell):

            def keep(outcome: CellOutcome) -> None:
                record.add(outcome)
                on_cell(outcome)

            outcomes = run(planned, executor, keep, on_event)
    except BadInput:
        record.discard_if_empty()
        raise
    except Interrupted as error:
        record.discard_if_empty()
        count = len(record.result.cells)
        kept = f"the {count} finished before it are in {path}" if count else "no cell was finished"
        raise Interrupted(f"{error}; {kept}") from None
    return record.finish(outcomes), path


def _check_without_running(planned: Plan) -> str:
    """All that can be said of a plan without a build; returns what could not be checked, in words."""
    from llamacpp_tools.models.header import check_gguf
    from llamacpp_tools.sweep.fit import check_files, check_fit
    from llamacpp_tools.sweep.modelfile import existing_file

    check_files(planned)
    model = planned.config.model
    if isinstance(model, str) and "${" in model:
        return f"not checked against a model: {model} is not set"
    path = existing_file(model)
    if path is not None:
        check_fit(planned, check_gguf(path))
    return ""


def _ready(planned: Plan) -> tuple[Build, Path]:
    """The build and the model, both checked; what the user can mend is said before anything is started."""
    from llamacpp_tools.build.manifest import find
    from llamacpp_tools.models.header import check_gguf
    from llamacpp_tools.sweep.fit import check_files, check_fit
    from llamacpp_tools.sweep.modelfile import existing_file, model_file

    settings = planned.config
    check_files(planned)
    there = existing_file(settings.model)
    if there is not None:
        check_fit(planned, check_gguf(there))
    build = find(settings.build.backend, settings.build.variant)
    model = model_file(settings.model)
    check_fit(planned, check_gguf(model))
    return build, model


@contextmanager
def _progress(planned: Plan) -> Iterator[tuple[ProgressSink, CellSink]]:
    """Bars on stderr for the cells and the phase of the one that runs, and a line for each cell that ends."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from llamacpp_tools.cli.output import stderr_console
    from llamacpp_tools.sweep.cell import CellSpec, cell_id
    from llamacpp_tools.sweep.protocol import Event
    from llamacpp_tools.sweep.protocol import Progress as Phase

    console = stderr_console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    what = TextColumn("{task.description}", markup=False)
    with Progress(what, *columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        cells = bars.add_task("cells", total=len(planned.cells))
        phase = bars.add_task("", total=None)

        def on_event(spec: CellSpec, event: Event) -> None:
            if isinstance(event, Phase):
                text = f"{spec.mode} d{spec.n_depth}, round {event.round + 1} of {spec.rounds}: {event.phase}"
                bars.update(phase, description=text, completed=event.done, total=event.total)

        def on_cell(outcome: CellOutcome) -> None:
            bars.advance(cells)
            done = f"[{outcome.spec.index + 1}/{len(planned.cells)}] {cell_id(outcome.spec)}"
            console.print(f"{done}: {_said(outcome)}", markup=False, highlight=False, soft_wrap=True)

        yield on_event, on_cell


def _said(outcome: CellOutcome) -> str:
    return f"ok, {outcome.wall_s:.1f} s" if outcome.ok else f"{outcome.status}: {outcome.reason}"


def _print_plan(planned: Plan, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.sweep.cell import cell_id

    if json_output:
        cells = [{"id": cell_id(cell), **cell.to_json()} for cell in planned.cells]
        totals = {"prefill_tokens": planned.prefill_tokens, "decode_tokens": planned.decode_tokens}
        print_json({"name": planned.config.name, "cells": cells, **totals})
        return
    from rich import box
    from rich.table import Table

    from llamacpp_tools.cli.output import stdout_console

    headline = _headline(planned.config)
    table = Table(title=headline, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "mode", "depth", "workload", "ubatch", "KV", "window", "draft"):
        table.add_column(name, no_wrap=name != "workload", overflow="fold")
    for cell in planned.cells:
        full = ",".join(str(layer) for layer in cell.full_layers or ()) or "none"
        table.add_row(
            str(cell.index + 1),
            cell.mode,
            str(cell.n_depth),
            cell.workload,
            str(cell.n_ubatch),
            cell.type_k if cell.type_k == cell.type_v else f"{cell.type_k}/{cell.type_v}",
            f"{cell.window}, full {full}" if cell.swa else "-",
            f"{cell.n_max}, p {cell.p_min:g}" if cell.mtp else "-",
        )
    stdout_console().print(table)
    typer.echo(
        f"{len(planned.cells)} cells of {planned.config.rounds} rounds: {planned.prefill_tokens:,} tokens to "
        f"prefill, {planned.decode_tokens:,} to generate"
    )
    for sentence in planned.config.unheeded:
        typer.echo(sentence)


def _headline(settings: SweepConfig) -> str:
    from llamacpp_tools.sweep.modelfile import in_words

    return (
        f"{settings.name}: {in_words(settings.model)} on {settings.build.backend}, {settings.build.variant}"
    )


def _print_result(result: Document, path: Path, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json, stdout_console
    from llamacpp_tools.errors import CheckFailed

    if json_output:
        from llamacpp_tools.results.document import as_json

        print_json(as_json(result))
    else:
        from llamacpp_tools.results.table import tables

        console = stdout_console()
        for table in tables(result.cells):
            console.print(table)
            console.print()
        for sentence in result.caveats:
            typer.echo(f"note: {sentence}")
        typer.echo(f"result: {path}")
    if not any(cell.status == "ok" for cell in result.cells):
        raise CheckFailed(f"none of the {len(result.cells)} cells could be measured; {path} says why")
