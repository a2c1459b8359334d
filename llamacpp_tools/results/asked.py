"""What a result's own configuration asked for, against what is in it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from llamacpp_tools.errors import BadInput
from llamacpp_tools.results.cells import bare_id
from llamacpp_tools.results.schema import Document
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.config import SweepConfig
from llamacpp_tools.sweep.plan import plan


def asked(document: Document) -> SweepConfig | None:
    """The configuration of a measured result; None of a published one, or of one that this version cannot read."""
    if document.provenance.source != "measured":
        return None
    try:
        return SweepConfig.model_validate(as_written(document.config))
    except ValidationError:
        return None


def missing(document: Document, box: str | None = None) -> list[CellSpec]:
    """The cells that were asked for and are not there, in the plan's order.

    Args:
        document: the result.
        box: one that was to measure all of them; None for all boxes together.
    """
    config = asked(document)
    if config is None or any(
        cell.traced or cell.forced for cell in document.cells if not config.draft.forced
    ):
        # The cells of `llt acceptance` are not those that its configuration alone would give.
        return []
    try:
        wanted = plan(config).cells
    except BadInput:
        return []
    there = {bare_id(cell) for cell in document.cells if box in (None, cell.box)}
    return [spec for spec in wanted if cell_id(spec) not in there]


def as_written(config: dict[str, Any]) -> dict[str, Any]:
    """The stored configuration without the empty values that mean a default, which a sweep file cannot spell."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        kept = as_written(value) if isinstance(value, dict) and key != "model" else value
        if kept is not None and kept != []:
            found[key] = kept
    if "type_kv" in found:
        # It stands for both.
        found.pop("type_k", None)
        found.pop("type_v", None)
    return found
