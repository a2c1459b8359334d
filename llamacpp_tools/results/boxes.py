"""Boxes that ran the same cells: one box's result alone, and how fast they are beside each other.

Boxes are compared as two result files are (`results.across`): what they measured was not measured side by side.
"""

from __future__ import annotations

from llamacpp_tools.results.across import Across, Ratio, across
from llamacpp_tools.results.cells import bare_id
from llamacpp_tools.results.schema import Cell, Document


def of_box(document: Document, name: str) -> Document:
    """What one box measured, as if it were a result of its own."""
    known = next(each for each in document.boxes if each.name == name)
    cells = [_alone(cell) for cell in document.cells if cell.box == name]
    changes = {
        "cells": cells,
        "comparisons": [],
        "boxes": [],
        "provenance": known.provenance,
        "box": known.box,
    }
    return document.model_copy(update=changes)


def between(document: Document) -> list[Across]:
    """Every box against the first one; nothing where the cells were spread over the boxes."""
    if document.config.get("place") != "each" or len(document.boxes) < 2:
        return []
    first, *others = [each.name for each in document.boxes]
    ours = of_box(document, first)
    return [across(ours, of_box(document, other), names=(first, other)) for other in others]


def sentences(document: Document) -> list[str]:
    """Each box's speed beside the first one's, over all cells that both have."""
    return [_said(found, ratio) for found in between(document) for ratio in found.overall]


def _said(found: Across, ratio: Ratio) -> str:
    verb = "decodes" if ratio.metric == "decode_tps" else "prefills"
    low, high = ratio.interval or (ratio.ratio, ratio.ratio)
    return (
        f"Over {len(found.matched)} cells the box {found.b} {verb} {ratio.ratio:.2f} times as fast as {found.a} "
        f"({low:.2f} to {high:.2f})."
    )


def _alone(cell: Cell) -> Cell:
    suffix = f" @{cell.box}"
    reference = cell.reference.removesuffix(suffix) if cell.reference is not None else None
    return cell.model_copy(update={"id": bare_id(cell), "reference": reference, "box": None})
