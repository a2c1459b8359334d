"""The cells of the lab, and what cannot be asked of it."""

from pathlib import Path

import pytest

from llamacpp_tools.acceptance.lab import Asked, cells, class_names, class_of, what
from llamacpp_tools.errors import BadInput
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.journal import cell_key


def test_each_class_has_a_plain_text_and_a_watched_one_and_the_first_one_costs():
    planned = cells(Asked("miniature", classes=["code", "log"], lookahead=5, n_predict=100, rounds=4))
    told = [
        (c.workload, c.mode, "forced" if c.forced else "traced" if c.traced else "", c.rounds)
        for c in planned.cells
    ]
    assert told == [
        ("code", "dense", "", 4), ("code", "mtp", "forced", 4), ("code", "mtp", "traced", 1),
        ("maintenance_log", "dense", "", 1), ("maintenance_log", "mtp", "traced", 1),
    ]  # fmt: skip
    assert [cell.index for cell in planned.cells] == list(range(5))
    # Every draft has an end to be held against, in the plain text, too.
    assert {cell.n_predict for cell in planned.cells if not cell.forced} == {105}
    assert len({cell_id(cell) for cell in planned.cells}) == 5
    for cell in planned.cells:
        assert cell.n_ctx >= cell.n_depth + cell.n_predict + (cell.n_max or 0)
        assert CellSpec.from_json(cell.to_json()) == cell


def test_everything_is_a_class_and_the_issues_names_are_known():
    wanted = {"factual", "thinking", "code", "instruction", "log", "prose", "extraction", "analysis"}
    assert set(class_names()) == wanted
    planned = cells(Asked("miniature"))
    assert {class_of(cell.workload) for cell in planned.cells} == wanted
    # The workloads' own names do as well, and one class is one.
    same = cells(Asked("miniature", classes=["log", "maintenance_log"]))
    assert {cell.workload for cell in same.cells} == {"maintenance_log"}


def test_a_text_of_ones_own_is_a_class_of_its_name(tmp_path: Path):
    planned = cells(Asked("m.gguf", texts=[tmp_path / "minutes.txt"]))
    assert {class_of(cell.workload) for cell in planned.cells} == {"minutes.txt"}
    both = cells(Asked("m.gguf", classes=["code"], texts=[tmp_path / "minutes.txt"]))
    assert [class_of(cell.workload) for cell in both.cells if cell.traced] == ["code", "minutes.txt"]


def test_a_window_is_that_of_all_cells_and_switches_are_those_of_the_drafts():
    asked = Asked(
        "m.gguf", classes=["code"], window=512, full_layers=[3], draft_history=False, before_norm=True, verify=True,
        context={"flash_attn": False},
    )  # fmt: skip
    plain, forced, traced, verified = cells(asked).cells
    assert (plain.mode, forced.mode, traced.mode) == ("swa", "swa+mtp", "swa+mtp")
    assert {(cell.window, cell.full_layers, cell.flash_attn) for cell in cells(asked).cells} == {
        (512, (3,), False)
    }
    assert forced.draft_history and not forced.before_norm
    assert traced.before_norm and verified.before_norm and not traced.draft_history
    assert not verified.traced and not verified.forced
    assert "a window of 512" in what(asked, cells(asked))


def test_without_mtp_there_are_plain_texts_alone():
    planned = cells(Asked("miniature", classes=["code", "log"], mtp=False))
    assert [cell.mode for cell in planned.cells] == ["dense", "dense"]


def test_each_switch_makes_a_cell_of_its_own():
    base = {"model": "x", "libraries": "y"}
    switches = [{}, {"draft_history": False}, {"before_norm": True}, {"lookahead": 5}]
    traced = [cells(Asked("miniature", classes=["log"], **each)).cells[2] for each in switches]
    assert len({cell_key(cell, base) for cell in traced}) == len({cell_id(cell) for cell in traced}) == 4


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"classes": ["poem"]}, "there is no class poem; there are log, analysis, prose"),
        ({"full_layers": [3]}, "layers stay full only where there is a window"),
        ({"mtp": False, "verify": True}, "there is nothing to verify"),
        (
            {"ballast": {"ballast_weights": 5}, "model": "a.gguf"},
            "only the miniature takes ballast, not a.gguf",
        ),
        ({"lookahead": 65}, r"draft\.n_max"),
        ({"context": {"threads": 0}}, r"context\.threads"),
        ({"backend": "metal"}, r"build\.backend"),
        ({"texts": [Path("a.txt"), Path("a.txt")]}, "twice"),
    ],
)
def test_what_cannot_be_is_a_sentence(asked, why):
    with pytest.raises(BadInput, match=why):
        cells(Asked(**({"model": "miniature"} | asked)))
