"""Results that each of several boxes made, against each other and against one machine's."""

from __future__ import annotations

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.results.across import across
from llamacpp_tools.results.boxes import between, of_box, sides
from llamacpp_tools.results.schema import Box, Document
from tests.results.test_across import slower


@pytest.fixture
def base(make_document, at_speed):
    return make_document(
        lambda cells: [at_speed(cell, 99.0, 100.0, 101.0, 100.5, 99.5) for cell in cells], rounds=5
    )


@pytest.fixture
def on_each(at_speed):
    """The same cells on boxes of other decode speeds, as `place: each` writes them."""
    return lambda document, speeds: _on_each(document, speeds, at_speed)


def _on_each(document: Document, speeds: dict[str, float], at_speed) -> Document:
    boxes = [Box(name=name, box=name, provenance=document.provenance) for name in speeds]
    cells = [
        cell.model_copy(update={"id": f"{cell.id} @{name}", "box": name})
        for name, speed in speeds.items()
        for cell in slower(document, speed, at_speed).cells
    ]
    changes = {"config": document.config | {"place": "each"}, "boxes": boxes, "cells": cells}
    return document.model_copy(update=changes)


def decode(match):
    return next(ratio.ratio for ratio in match.ratios if ratio.metric == "decode_tps")


def test_a_box_is_held_against_itself(base, on_each):
    before, after = on_each(base, {"one": 1.0, "two": 0.5}), on_each(base, {"one": 1.0, "two": 0.3})
    found = across(*sides(before, after, None))
    assert len(found.matched) == 2 * len(base.cells) and not found.only_a
    for match in found.matched:
        assert decode(match) == pytest.approx(0.6 if match.cell.endswith("@two") else 1.0)
    assert found.failed and all("@two" in each or "over all" in each for each in found.regressions)


def test_one_box_of_each_can_be_compared_and_one_machine_with_a_box(base, on_each):
    boxes = on_each(base, {"one": 1.0, "two": 0.5})
    assert not across(*sides(boxes, boxes, "two")).failed
    assert not across(*sides(base, boxes, "one")).failed
    assert across(*sides(base, boxes, "two")).failed
    with pytest.raises(BadInput, match="one, two measured all cells"):
        sides(base, boxes, None)
    with pytest.raises(BadInput, match="has no box three; its boxes: one, two"):
        sides(boxes, boxes, "three")
    with pytest.raises(BadInput, match="neither of these is one"):
        sides(base, base, "one")


def test_boxes_of_one_result_are_held_against_the_first(base, on_each):
    (found,) = between(on_each(base, {"one": 1.0, "two": 0.5}))
    assert (found.a, found.b) == ("one", "two")
    assert all(decode(match) == pytest.approx(0.5) for match in found.matched)
    assert between(base) == []
    assert {cell.id for cell in of_box(on_each(base, {"one": 1.0, "two": 0.5}), "two").cells} == {
        cell.id for cell in base.cells
    }


def test_a_cell_that_one_box_lacks_is_missed_though_another_has_it(base, on_each):
    both = on_each(base, {"one": 1.0, "two": 0.5})
    lost = both.cells[-1].id
    assert lost.endswith("@two")
    found = across(*sides(both, both.model_copy(update={"cells": both.cells[:-1]}), None))
    assert found.regressions == [f"{lost} was ok in A and is missing in B, which was to measure it"]
