"""`llt sweep`: run the matrix of a sweep file, print its tables, say where the result lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llamacpp_tools.results.schema import Result
    from llamacpp_tools.sweep.config import SweepConfig
    from llamacpp_tools.sweep.outcome import CellOutcome
    from llamacpp_tools.sweep.plan import Plan
    from llamacpp_tools.sweep.runner import ProgressSink


def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep file; configs/ holds some to copy.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="A GGUF file, in place of the one the sweep file names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The result file [default: results/NAME-TIME.json].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Measure every cell of CONFIG and write one result file."""
    from llamacpp_tools.sweep.configfile import load_config
    from llamacpp_tools.sweep.plan import plan

    settings = load_config(config, model, expand_model=not dry_run)
    planned = plan(settings)
    if dry_run:
        _print_plan(planned, json_output)
        return
    result, path = _measure(planned, config, out)
    _print_result(result, path, json_output)


def _measure(planned: Plan, source: Path, out: Path | None) -> tuple[Result, Path]:
    import datetime

    from llamacpp_tools.build.manifest import find
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.models.header import check_gguf
    from llamacpp_tools.results.provenance import provenance
    from llamacpp_tools.results.record import Record, choose_path
    from llamacpp_tools.sweep.executor import LocalExecutor
    from llamacpp_tools.sweep.fit import check_fit
    from llamacpp_tools.sweep.runner import run
    from llamacpp_tools.workloads import MEASURED_SEED

    settings = planned.config
    now = datetime.datetime.now(datetime.UTC)
    path = choose_path(out, settings.name, now)
    build = find(settings.build.backend, settings.build.variant)
    model = _model_path(settings, source)
    check_fit(planned, check_gguf(model))
    planned = _with_files(planned, source)
    executor = LocalExecutor(model.absolute(), build.path, MEASURED_SEED)
    record = Record(path, planned, provenance(build.data, model), now)

    def keep(outcome: CellOutcome) -> None:
        record.add(outcome)

    try:
        with _progress(planned) as (on_event, on_cell):
            outcomes = run(planned, executor, lambda outcome: (keep(outcome), on_cell(outcome))[0], on_event)
    except BadInput:
        record.discard_if_empty()
        raise
    return record.finish(outcomes), path
