"""The result file as a sweep goes on: there from the start, never half written, complete at the end."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.results import statistics
from llamacpp_tools.results.blocks import depth_blocks
from llamacpp_tools.results.cells import mark_throttled, row
from llamacpp_tools.results.derive import derive
from llamacpp_tools.results.document import read, write
from llamacpp_tools.results.provenance import box, common, with_device
from llamacpp_tools.results.schema import Box, Cell, DepthStateCheck, Document, Provenance
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.config import SweepConfig
from llamacpp_tools.sweep.journal import SUFFIX, is_open, journal_path
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.protocol import RoundSample
from llamacpp_tools.sweep.validity import first_difference

RESULTS_FOLDER = "results"
_STAMP = re.compile(r"-\d{8}T\d{6}Z" + re.escape(SUFFIX))


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
    if not path.exists() and journal_path(path).exists():
        raise BadInput(
            f"{journal_path(path)} is the journal of an earlier sweep; go on with it with --resume, or remove it"
        )
    if path.exists():
        raise BadInput(
            f"{path} is there already and is not overwritten; name another file with --out, or go on with --resume"
        )
    return path


def path_to_go_on(out: Path | None, name: str, folder: Path = Path()) -> Path:
    """The result that `--resume` goes on with: `out`, or the newest of that name that has a journal.

    Raises:
        BadInput: there is none.
    """
    if out is not None and not out.is_dir():
        if not journal_path(out).is_file():
            raise BadInput(f"{out} cannot be gone on with: there is no journal {journal_path(out)}")
        return out
    where = out if out is not None else folder / RESULTS_FOLDER
    found = _journalled(where, name)
    if not found:
        raise BadInput(
            f"there is nothing to go on with: no {where / f'{name}-*{SUFFIX}'}; leave --resume out"
        )
    return found[-1]


def unfinished(out: Path | None, name: str, folder: Path = Path()) -> Path | None:
    """The newest result of that name where a new one would go, if its sweep ended before its end."""
    where = out if out is not None else folder / RESULTS_FOLDER
    found = _journalled(where, name)
    if not found or is_open(journal_path(found[-1])):
        return None
    try:
        return found[-1] if read(found[-1]).status == "started" else None
    except BadInput:
        return None


def _journalled(where: Path, name: str) -> list[Path]:
    """The results of that name which have a journal, oldest first: the times in the names sort as times do."""
    found = sorted(
        path for path in where.glob(f"{name}-*{SUFFIX}") if _STAMP.fullmatch(path.name[len(name) :])
    )
    return [path.with_name(path.name.removesuffix(SUFFIX) + ".json") for path in found]


class ResultNotWritten(LltError):
    """The result file could not be replaced; the old one is as it was."""

    exit_code = 3


class Record:
    """One sweep's result file.

    Attributes:
        boxes: where the boxes of a sweep over several stand, by name; empty for one on this machine.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        provenance: Provenance,
        now: datetime.datetime,
        runs: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write the file with status `started` and no cells, unless there is one to go on with.

        Args:
            path: the file; one that is there stays as it is until there is something to put in its place.
            plan: the cells.
            provenance: of this run.
            now: the time of the first run.
            runs: what is known of each run.

        Raises:
            BadInput: the file cannot be written there.
        """
        self.path = path
        self.boxes: dict[str, Provenance] = {}
        self._each = plan.config.place == "each"
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
            runs=list(runs),
        )
        self._is_new = not path.exists()
        try:
            if self._is_new:
                write(path, self.result)
        except OSError as error:
            raise BadInput(f"the result cannot be written to {path}: {error.strerror}") from None

    def update(self, outcomes: Sequence[CellOutcome]) -> None:
        """Replace the cells by those that have begun and rewrite the file; without any it stays as it is.

        Raises:
            ResultNotWritten: the disk is full; the old file is as it was.
        """
        if not outcomes:
            return
        changes: dict[str, Any] = {"cells": mark_throttled(rows(outcomes, self._each))}
        if self.boxes:
            changes |= self._of_boxes(outcomes)
        else:
            changes["provenance"] = _with_devices(self.result.provenance, outcomes)
        self.result = self.result.model_copy(update=changes)
        self._write()

    def _of_boxes(self, outcomes: Sequence[CellOutcome]) -> dict[str, Any]:
        """What the document says of the boxes that have begun a cell."""
        begun = {outcome.box for outcome in outcomes}
        found = []
        for name in sorted(begun & self.boxes.keys(), key=str):
            own = [outcome for outcome in outcomes if outcome.box == name]
            known = _with_devices(self.boxes[str(name)], own)
            found.append(Box(name=str(name), box=box(known), provenance=known))
        shared = common([each.provenance for each in found])
        words = "; ".join(f"{each.name}: {each.box}" for each in found)
        return {"boxes": found, "provenance": shared, "box": words, "model": shared.model_filename or ""}

    def finish(self, outcomes: Sequence[CellOutcome]) -> Document:
        """Put in the checked cells and what follows from them, and mark the document complete.

        Raises:
            ResultNotWritten: the disk is full; the old file is as it was.
        """
        self.update(outcomes)
        cells = self.result.cells
        changes = {"status": "complete", "depth_state_check": depth_state_check(outcomes)}
        measured = self.result.model_copy(update=changes)
        fields: dict[str, Any] = {**dict(measured), **derive(measured)._asdict(), **depth_blocks(cells)}
        self.result = Document(**fields)
        self._write()
        return self.result

    def _write(self) -> None:
        try:
            write(self.path, self.result)
        except OSError as error:
            raise ResultNotWritten(
                f"the result cannot be written to {self.path} ({error.strerror}); the journal beside it has every round"
            ) from None

    def discard_if_empty(self) -> None:
        """Remove the file if no round was measured, so that a sweep that could not begin leaves nothing behind.

        One that was there before stays.
        """
        if (
            self._is_new
            and len(self.result.runs) <= 1
            and not any(cell.samples for cell in self.result.cells)
        ):
            self.path.unlink(missing_ok=True)


def _with_devices(known: Provenance, outcomes: Sequence[CellOutcome]) -> Provenance:
    for outcome in outcomes:
        known = with_device(known, outcome)
    return known


def depth_state_check(outcomes: Sequence[CellOutcome]) -> DepthStateCheck | None:
    """The first cell that was filled both ways, compared; None if there is none."""
    for outcome in outcomes:
        kept = [sample for sample in outcome.rounds if sample.filled == "restored" and sample.n_gen]
        true = [sample for sample in outcome.rounds if sample.filled == "prefill" and sample.n_gen]
        true = true or ([outcome.check] if outcome.check is not None and outcome.check.n_gen else [])
        if kept and true:
            fast, slow = _speed(kept), _speed(true)
            at = first_difference(true[0].tokens, kept[0].tokens)
            return DepthStateCheck(cell=cell_id(outcome.spec), first_divergence=at, decode_ratio=fast / slow)
    return None


def _speed(samples: Sequence[RoundSample]) -> float:
    return float(statistics.median([sample.n_gen / sample.decode_ns for sample in samples]) or 0.0)


def rows(outcomes: Sequence[CellOutcome], each: bool = False) -> list[Cell]:
    """The rows of checked outcomes, each with the id of the cell that it was compared with.

    Args:
        outcomes: the cells.
        each: every box measures every cell, so that a cell's id names its box, too.
    """
    ids = {
        (outcome.box, outcome.spec.index): cell_id(outcome.spec) + (f" @{outcome.box}" if each else "")
        for outcome in outcomes
    }
    return [
        row(
            item,
            ids[item.box, item.reference] if item.reference is not None else None,
            ids[item.box, item.spec.index],
        )
        for item in outcomes
    ]


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
        f"{config.generate.n_predict} tokens greedy, at least {config.rounds} rounds per cell."
    )
