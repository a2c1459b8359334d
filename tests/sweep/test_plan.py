import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.sweep.cell import CellSpec, cell_id, context_size, pad_cells
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.plan import plan


def modes(made):
    return [cell.mode for cell in made.cells]


def test_four_modes_in_order(config):
    made = plan(config)
    assert modes(made) == ["dense", "swa", "mtp", "swa+mtp"]
    dense, swa, mtp, both = made.cells
    assert (dense.window, dense.n_max, dense.n_batch) == (None, None, 2048)
    assert (swa.window, swa.full_layers, swa.n_max) == (128, (7,), None)
    assert (mtp.window, mtp.n_max, mtp.p_min) == (None, 3, 0.0)
    assert (both.window, both.n_max) == (128, 3)
    assert [cell.index for cell in made.cells] == [0, 1, 2, 3]


def test_an_axis_repeats_only_the_modes_it_concerns(raw):
    raw["swa"] = {"window": [128, 256], "full_layers": [[], [7]]}
    raw["draft"] = {"n_max": [1, 2, 3]}
    made = plan(parse_config(raw, "x"))
    counts = {mode: modes(made).count(mode) for mode in ("dense", "swa", "mtp", "swa+mtp")}
    assert counts == {"dense": 1, "swa": 4, "mtp": 3, "swa+mtp": 12}


def test_the_order_is_depth_workload_axis_mode(raw):
    raw.update(depths=[20, 10], workloads=["code", "analysis"], modes=["dense", "mtp"])
    raw["context"] = {"n_ubatch": [64, 32]}
    cells = plan(parse_config(raw, "x")).cells
    assert [(c.n_depth, c.workload, c.n_ubatch, c.mode) for c in cells[:5]] == [
        (20, "code", 64, "dense"),
        (20, "code", 64, "mtp"),
        (20, "code", 32, "dense"),
        (20, "code", 32, "mtp"),
        (20, "analysis", 64, "dense"),
    ]
    assert len(cells) == 16


def test_names_are_unique_and_say_what_differs(raw):
    raw["draft"] = {"n_max": [1, 2], "p_min": [0, 0.5]}
    raw["context"] = {"type_k": ["f16", "q8_0"], "flash_attn": ["auto", True]}
    cells = plan(parse_config(raw, "x")).cells
    assert len({cell_id(cell) for cell in cells}) == len(cells)
    assert "n2 p0.5" in cell_id(cells[-1])


def test_a_cell_survives_json(config):
    for cell in plan(config).cells:
        assert CellSpec.from_json(cell.to_json()) == cell


@pytest.mark.parametrize("change", [{"mode": "fast"}, {"extra": 1}])
def test_a_cell_with_wrong_fields_is_refused(config, change):
    with pytest.raises(ValueError):
        CellSpec.from_json({**plan(config).cells[0].to_json(), **change})


def test_the_context_holds_prompt_output_and_a_draft():
    assert context_size(123228, 200, 3) == pad_cells(123228 + 200 + 3 + 8) == 123648
    assert context_size(248, 1, None) == 512
    assert context_size(240, 8, None) == 256


def test_a_batch_follows_a_large_ubatch(raw):
    raw["context"] = {"n_ubatch": 4096}
    assert plan(parse_config(raw, "x")).cells[0].n_batch == 4096


def test_bounded_says_whether_the_window_saves_cells(raw):
    raw.update(depths=[700, 200])
    cells = [cell for cell in plan(parse_config(raw, "x")).cells if cell.mode == "swa"]
    assert [cell.bounded for cell in cells] == [True, False]


def test_tokens_are_counted_over_rounds(config):
    made = plan(config)
    assert made.prefill_tokens == 4 * 2 * 700
    assert made.decode_tokens == 4 * 2 * 12


def test_too_many_cells_are_refused(raw):
    raw["draft"] = {"n_max": list(range(1, 65)), "p_min": [at / 200 for at in range(200)]}
    with pytest.raises(BadInput, match="more than 10000 cells"):
        plan(parse_config(raw, "x"))
