"""Runs the cells of a plan one after the other and checks the whole at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llamacpp_tools.errors import BadInput
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.executor import Executor
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.protocol import Event
from llamacpp_tools.sweep.validity import check

log = logging.getLogger(__name__)

# Backends on which the same work gives the same bits.
DETERMINISTIC = frozenset({"cpu"})

CellSink = Callable[[CellOutcome], None]
ProgressSink = Callable[[CellSpec, Event], None]


def ignore_progress(spec: CellSpec, event: Event) -> None:
    """A progress sink that does nothing."""


def run(
    plan: Plan, executor: Executor, on_cell: CellSink, progress: ProgressSink = ignore_progress
) -> list[CellOutcome]:
    """Measure every cell of `plan`, in order.

    Args:
        plan: the cells.
        executor: measures one cell.
        on_cell: is given each outcome as soon as its cell ends, so that it can be kept; what only the
            whole sweep shows (divergence, validity) is not in it yet.
        progress: is given each event of the cell that runs.

    Returns:
        One outcome per cell, in the plan's order, checked against each other.

    Raises:
        BadInput: a worker found the input itself wrong, so the cells after it could not do better.
        Interrupted: the user stopped it; the outcomes so far went to `on_cell`.
    """
    outcomes: list[CellOutcome] = []
    for spec in plan.cells:
        log.info("cell %d of %d: %s", spec.index + 1, len(plan.cells), cell_id(spec))
        outcome = executor.run(spec, lambda event, spec=spec: progress(spec, event))  # type: ignore[misc]
        if outcome.bad_input:
            raise BadInput(outcome.reason or f"the input of {cell_id(spec)} is wrong")
        outcomes.append(outcome)
        on_cell(outcome)
    return check(outcomes, plan.config.build.backend in DETERMINISTIC)
