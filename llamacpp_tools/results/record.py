"""The result file as a sweep goes on: there from the start, never half written, complete at the end."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llamacpp_tools.errors import BadInput
from llamacpp_tools.results.blocks import depth_blocks
from llamacpp_tools.results.cells import row
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.document import write
from llamacpp_tools.results.findings import caveats, findings
from llamacpp_tools.results.provenance import box, with_device
from llamacpp_tools.results.schema import Cell, Document, Provenance
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.config import SweepConfig
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan

RESULTS_FOLDER = "results"


def default_path(name: str, now: datetime.datetime, folder: Path = Path()) -> Path:
    """`results/<name>-<UTC time>.json` below `folder`."""
    stamp = now.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return folder / RESULTS_FOLDER / f"{name}-{stamp}.json"


def choose_path(out: Path | None, name: str, now: datetime.datetime) -> Path:
    """Where the result goes: `out`, a file of the usual name in it if it is a folder, or the default.

    Raises:
        BadInput: `out` is there already; a result is never overwritten.
    """
    path = default_path(name, now) if out is None else out
    if path.is_dir():
        path = path / default_path(name, now).name
    if path.exists():
        raise BadInput(f"{path} is there already and is not overwritten; name another file with --out")
    return path


class Record:
    """One sweep's result file."""

    def __init__(self, path: Path, plan: Plan, provenance: Provenance, now: datetime.datetime) -> None:
        """Write the file with status `started` and no cells.

        Raises:
            BadInput: the file cannot be written there.
        """
        self.path = path
        self._plan = plan
        self.result = Document(
            status="started",
            experiment=plan.config.name,
            date=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
            box=box(provenance),
            backend=plan.config.build.backend,
            model=provenance.model_filename or "",
            what=what(plan),
            provenance=provenance,
            config=resolved(plan.config),
            cells=[],
        )
        try:
            write(path, self.result)
        except OSError as error:
            raise BadInput(f"the result cannot be written to {path}: {error.strerror}") from None

    def add(self, outcome: CellOutcome) -> None:
        """Add a cell that has just ended and rewrite the file."""
        cells = [*self.result.cells, row(outcome)]
        provenance = with_device(self.result.provenance, outcome)
        self.result = self.result.model_copy(update={"cells": cells, "provenance": provenance})
        write(self.path, self.result)

    def finish(self, outcomes: Sequence[CellOutcome]) -> Document:
        """Replace the cells by the checked ones, add what follows from them, and mark it complete."""
        config = self._plan.config
        cells = rows(outcomes)
        comparisons = compare(cells)
        fields: dict[str, Any] = {
            **dict(self.result),
            "status": "complete",
            "cells": cells,
            "comparisons": comparisons,
            "findings": findings(cells, comparisons),
            "caveats": caveats(cells, comparisons, config, self.result.provenance),
            **depth_blocks(cells),
        }
        self.result = Document(**fields)
        write(self.path, self.result)
        return self.result

    def discard_if_empty(self) -> None:
        """Remove the file if no cell ended, so that a sweep that could not begin leaves nothing behind."""
        if not self.result.cells:
            self.path.unlink(missing_ok=True)


def rows(outcomes: Sequence[CellOutcome]) -> list[Cell]:
    """The rows of checked outcomes, each with the id of the cell that it was compared with."""
    ids = {outcome.spec.index: cell_id(outcome.spec) for outcome in outcomes}
    return [row(item, ids[item.reference] if item.reference is not None else None) for item in outcomes]


def resolved(config: SweepConfig) -> dict[str, Any]:
    """The configuration as JSON values with every default written out."""
    return config.model_dump(mode="json")


def what(plan: Plan) -> str:
    """The sweep in one sentence."""
    config = plan.config
    depths = ", ".join(str(depth) for depth in config.depths)
    workloads = ", ".join(dict.fromkeys(cell.workload for cell in plan.cells))
    return (
        f"Decode and prefill speed of {', '.join(config.modes)} at depth {depths} on {workloads}, "
        f"{config.generate.n_predict} tokens greedy, {config.rounds} rounds per cell."
    )
