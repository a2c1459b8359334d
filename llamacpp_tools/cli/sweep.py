"""`llt sweep`: run the matrix of a sweep file, print its tables, say where the result lies."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamacpp_tools.cli.boxes import Boxes, Certs, Cluster, Hosts, Place, Wait, asked_boxes
from llamacpp_tools.cli.options import share

if TYPE_CHECKING:
    from llamacpp_tools.cli.boxes import Measure
    from llamacpp_tools.results.schema import Document
    from llamacpp_tools.sweep.cell import CellSpec
    from llamacpp_tools.sweep.config import SweepConfig
    from llamacpp_tools.sweep.plan import Plan

MOST_ROUNDS = 50


@dataclass(frozen=True)
class _Asked:
    """What the command line says beside the sweep file."""

    out: Path | None
    resume: bool
    force: bool
    keep_prefills: bool
    until_width: float | None
    most_rounds: int
    boxes: Boxes | None


def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep file; configs/ holds some to copy.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="A GGUF file, in place of the one the sweep file names.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The result file, which must not be there yet without --resume [default: results/NAME-TIME.json].",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--fresh",
            help="Go on with --out, or with the newest result of this name: measure what is missing, failed or stale.",
        ),
    ] = False,
    until_width: Annotated[
        str | None,
        typer.Option(
            "--until-width",
            help="Add rounds until each decode ratio's interval is narrower than this, e.g. 2%.",
        ),
    ] = None,
    max_rounds: Annotated[
        int | None,
        typer.Option(
            "--max-rounds",
            min=2,
            max=1000,
            help=f"With --until-width, never more rounds than this [default: {MOST_ROUNDS}].",
        ),
    ] = None,
    no_depth_state: Annotated[
        bool, typer.Option("--no-depth-state", help="Keep no prefills; every round begins with a true one.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Load also what is not expected to fit into memory.")
    ] = False,
    cluster: Cluster = None,
    hosts: Hosts = None,
    certs: Certs = None,
    place: Place = None,
    wait: Wait = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Measure every cell of CONFIG and write one result file.

    Ctrl-C lets the round finish that runs, a second one ends at once; --resume goes on.
    """
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.sweep.configfile import load_config
    from llamacpp_tools.sweep.plan import plan

    width = share(until_width, "--until-width") if until_width is not None else None
    if width is None and max_rounds is not None:
        raise BadInput("--max-rounds bounds --until-width; for a fixed number set `rounds` in the sweep file")
    boxes = asked_boxes(cluster, hosts, certs, place, wait)
    settings = load_config(config, model, need_model=not dry_run)
    if place is not None:
        settings = settings.model_copy(update={"place": place})
    planned = plan(settings)
    if dry_run:
        unchecked = _check_without_running(planned)
        _print_plan(planned, json_output)
        if unchecked and not json_output:
            typer.echo(unchecked)
        return
    words = [str(config)]
    words += ["--model", str(model)] if model is not None else []
    words += ["--until-width", until_width] if until_width is not None else []
    words += ["--max-rounds", str(max_rounds)] if max_rounds is not None else []
    words += ["--no-depth-state"] * no_depth_state + ["--force"] * force
    words += boxes.words if boxes is not None else []
    asked = _Asked(out, resume, force, not no_depth_state, width, max_rounds or MOST_ROUNDS, boxes)
    result, path = _measure(planned, asked, f"llt sweep {shlex.join(words)}")
    _print_result(result, path, json_output)


def _measure(planned: Plan, asked: _Asked, command: str) -> tuple[Document, Path]:
    import datetime

    from llamacpp_tools.results.measure import Options, Stopped
    from llamacpp_tools.results.record import choose_path, path_to_go_on, unfinished

    now = datetime.datetime.now(datetime.UTC)
    name = planned.config.name
    path = path_to_go_on(asked.out, name) if asked.resume else choose_path(asked.out, name, now)
    boxes = asked.boxes
    measure = boxes.measure(planned) if boxes is not None else _here(planned)
    earlier = None if asked.resume else unfinished(asked.out, name)
    if earlier is not None:
        again = f"{command} --resume --out {shlex.quote(str(earlier))}"
        typer.echo(f"note: {earlier} is not finished; to go on with it: {again}", err=True)
    known = _measured(path) if asked.resume else None
    options = Options(asked.force, asked.keep_prefills, asked.until_width, asked.most_rounds)
    try:
        result = measure(path, options, now)
        if known is not None and known == _measured(path):
            typer.echo("note: every round was there already, so nothing was measured", err=True)
        return result, path
    except Stopped as stopped:
        again = f"{command} --resume --out {shlex.quote(str(path))}"
        typer.echo(f"what was measured is kept; go on with: {again}", err=True)
        raise stopped.why from None


def _here(planned: Plan) -> Measure:
    """Measures on this machine."""
    from llamacpp_tools.cli.output import file_progress
    from llamacpp_tools.cli.sweepbars import bars
    from llamacpp_tools.results.measure import measure, ready

    parts = ready(planned, file_progress)
    return lambda path, options, now: measure(planned, parts, path, bars, options, now)


def _measured(path: Path) -> list[object]:
    """What a result holds, round by round."""
    from llamacpp_tools.results.document import read

    return [(cell.id, cell.samples) for cell in read(path).cells] if path.exists() else []


def _check_without_running(planned: Plan) -> str:
    """All that can be said of a plan without a build; returns what could not be checked, in words."""
    from llamacpp_tools.sweep.fit import check_files, check_fit
    from llamacpp_tools.sweep.modelfile import model_header

    check_files(planned)
    model = planned.config.model
    if isinstance(model, str) and "${" in model:
        return f"not checked against a model: {model} is not set"
    check_fit(planned, model_header(model))
    return ""


def _print_plan(planned: Plan, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.sweep.cell import cell_id, unbounded

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
            _draft(cell),
        )
    stdout_console().print(table)
    typer.echo(
        f"{len(planned.cells)} cells of {planned.config.rounds} rounds: at most {planned.prefill_tokens:,} tokens to "
        f"prefill, {planned.decode_tokens:,} to generate"
    )
    for servers in dict.fromkeys(cell.rpc for cell in planned.cells if cell.rpc):
        numbers = [cell.index + 1 for cell in planned.cells if cell.rpc == servers]
        typer.echo(
            f"note: RPC servers hold layers of {len(numbers)} cells from {numbers[0]} on: {', '.join(servers)}"
        )
    for note in dict.fromkeys(filter(None, map(unbounded, planned.cells))):
        typer.echo(f"note: {note}")


def _draft(cell: CellSpec) -> str:
    if cell.n_max is None:
        return "-"
    if cell.forced or cell.auto:
        return f"0 to {cell.n_max}, {'forced' if cell.forced else 'auto'}"
    return f"{cell.n_max}, p {cell.p_min:g}" if cell.n_max else "0"


def _headline(settings: SweepConfig) -> str:
    from llamacpp_tools.sweep.modelfile import in_words

    return (
        f"{settings.name}: {in_words(settings.model)} on {settings.build.backend}, {settings.build.variant}"
    )


def _print_boxes(result: Document) -> None:
    from llamacpp_tools.results.boxes import sentences

    for each in result.boxes:
        count = sum(cell.box == each.name for cell in result.cells)
        typer.echo(f"box {each.name}: {count} cells; {each.box}")
    for sentence in sentences(result):
        typer.echo(sentence)


def _print_result(result: Document, path: Path, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json, stdout_console
    from llamacpp_tools.errors import CheckFailed

    if json_output:
        from llamacpp_tools.results.document import as_json

        print_json(as_json(result))
    else:
        from llamacpp_tools.results.table import tables

        console = stdout_console()
        for table in tables(result.cells, result.comparisons):
            console.print(table)
            console.print()
        _print_boxes(result)
        for sentence in result.caveats:
            typer.echo(f"note: {sentence}")
        typer.echo(f"result: {path}")
    if not any(cell.status == "ok" for cell in result.cells):
        raise CheckFailed(f"none of the {len(result.cells)} cells could be measured; {path} says why")
