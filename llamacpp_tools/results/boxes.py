"""Boxes that ran the same cells: one box's result alone, and how fast they are beside each other.

Boxes are compared as two result files are (`results.across`): what they measured was not measured side by side.
"""

from __future__ import annotations

from llamacpp_tools.errors import BadInput
from llamacpp_tools.results.across import Across, Ratio, across, everywhere
from llamacpp_tools.results.cells import bare_id
from llamacpp_tools.results.schema import Cell, Document


def of_box(document: Document, name: str) -> Document:
    """What one box measured, as if it were a result of its own.

    Raises:
        BadInput: no box of that name measured any of it.
    """
    known = next((each for each in document.boxes if each.name == name), None)
    if known is None:
        there = ", ".join(each.name for each in document.boxes) or "none, as one machine measured all"
        raise BadInput(f"{document.experiment} has no box {name}; its boxes: {there}")
    cells = [_alone(cell) for cell in document.cells if cell.box == name]
    changes = {
        "cells": cells,
        "comparisons": [],
        "boxes": [],
        "provenance": known.provenance,
        "box": known.box,
    }
    return document.model_copy(update=changes)


def of_one_box(document: Document, name: str | None) -> Document:
    """A result as that of one machine: the box of that name, else the only one that there is.

    Raises:
        BadInput: several boxes measured it and none is named, or there is none of that name.
    """
    names = [each.name for each in document.boxes if any(cell.box == each.name for cell in document.cells)]
    if name is None and len(names) > 1:
        raise BadInput(
            f"{document.experiment} was measured by the boxes {', '.join(names)}, and a step does not cost the same on "
            "each: name one with --box"
        )
    name = name or next(iter(names), None)
    return of_box(document, name) if name is not None else document


def between(document: Document) -> list[Across]:
    """Every box against the first one; nothing where the cells were spread over the boxes."""
    if not everywhere(document):
        return []
    first, *others = [each.name for each in document.boxes]
    ours = of_box(document, first)
    return [across(ours, of_box(document, other), names=(first, other)) for other in others]


def sides(a: Document, b: Document, box: str | None) -> tuple[Document, Document]:
    """The two results as they can be compared: whole, or what one box measured of each that has several.

    Raises:
        BadInput: no box is named and one of the two cannot be compared without, or there is none of that name, or none
            at all.
    """
    if box is not None:
        if not (everywhere(a) or everywhere(b)):
            raise BadInput(
                "--box is for a result that each of several boxes made, and neither of these is one"
            )
        found = [of_box(each, box) if everywhere(each) else each for each in (a, b)]
        return found[0], found[1]
    if everywhere(a) != everywhere(b):
        several = a if everywhere(a) else b
        names = ", ".join(each.name for each in several.boxes)
        raise BadInput(
            f"each of the boxes {names} measured all cells of {several.experiment}, and the other result is of one "
            "machine: name the box to compare with --box"
        )
    return a, b


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
