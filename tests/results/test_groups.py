import pytest

from llamacpp_tools.results.blocks import depth_blocks
from llamacpp_tools.results.cells import row
from llamacpp_tools.results.compare import compare, verdict
from llamacpp_tools.results.groups import groups
from llamacpp_tools.results.statistics import Paired


@pytest.fixture
def cells(make_plan, make_outcomes):
    def make(**changes):
        return [row(outcome) for outcome in make_outcomes(make_plan(**changes))]

    return make


def test_one_2x2(cells):
    (group,) = groups(cells())
    assert list(group.cells) == ["dense", "swa", "mtp", "swa+mtp"]
    assert (group.axes, group.suffix) == ({}, "")
    assert group.label == "depth 2048, maintenance_log"


def test_an_axis_makes_groups_that_share_what_it_does_not_concern(cells):
    made = cells(draft={"n_max": [2, 3]}, swa={"window": [64, 128], "full_layers": [7]})
    found = groups(made)
    assert [group.suffix for group in found] == ["_w64_n2", "_w64_n3", "_w128_n2", "_w128_n3"]
    assert len({group.cells["dense"].id for group in found}) == 1
    assert found[1].cells["mtp"].n_max == 3
    assert (found[2].cells["swa+mtp"].window, found[2].cells["swa+mtp"].n_max) == (128, 2)


def test_context_axes_and_layer_lists_are_told_apart(cells):
    made = cells(
        context={"n_ubatch": 128, "type_k": ["f16", "q8_0"], "flash_attn": [True, "auto"]},
        swa={"window": 128, "full_layers": [[], [3, 7]]},
    )
    suffixes = [group.suffix for group in groups(made)]
    assert len(suffixes) == len(set(suffixes)) == 8
    assert suffixes[0] == "_k-f16_fa-on_full-none"
    assert suffixes[-1] == "_k-q8_0_fa-auto_full-3,7"


def test_comparisons_have_their_ratio_and_interval(cells):
    found = {(item.metric, item.mode, item.to_mode): item for item in compare(cells())}
    both = found["decode_tps", "swa+mtp", "dense"]
    assert both.ratio == pytest.approx(2.0)
    assert both.interval == pytest.approx([2.0, 2.0])
    assert (both.verdict, both.rounds, both.confounded) == ("faster", 3, False)
    assert found["prefill_tps", "swa", "dense"].ratio == pytest.approx(2.0, rel=1e-3)
    assert len(found) == 10


def test_a_pair_without_the_axis_is_compared_once(cells):
    found = compare(cells(draft={"n_max": [2, 3]}))
    swa = [item for item in found if (item.metric, item.mode, item.to_mode) == ("decode_tps", "swa", "dense")]
    assert len(swa) == 1


def test_cells_that_are_not_ok_are_not_compared(cells):
    made = cells()
    made[3] = made[3].model_copy(update={"status": "crashed", "reason": "gone"})
    assert {item.mode for item in compare(made)} == {"swa", "mtp"}


def test_texts_of_different_variety_confound(cells):
    made = cells()
    made[3] = made[3].model_copy(update={"distinct_word_ratio": 0.5})
    marked = {item.mode for item in compare(made) if item.confounded}
    assert marked == {"swa+mtp"}


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (None, None),
        (Paired(1.1, None, None, 1), None),
        (Paired(1.1, [1.01, 1.2], None, 3), "faster"),
        (Paired(0.9, [0.8, 0.99], 0.03, 6), "slower"),
        (Paired(0.9, [0.8, 0.99], 0.06, 6), "no difference shown"),
        (Paired(1.0, [0.9, 1.1], 0.01, 8), "no difference shown"),
    ],
)
def test_verdict(found, word):
    assert verdict(found) == word


def test_rounds_are_paired_by_their_number(cells):
    made = cells()
    # Without its first round the cell has two; the others are paired as before.
    made[1] = made[1].model_copy(update={"samples": made[1].samples[1:]})
    found = next(item for item in compare(made) if item.metric == "decode_tps")
    assert found.rounds == 2
    assert found.ratio == pytest.approx(1.25)


def test_a_restored_prefill_is_no_sample_of_its_own(cells):
    made = cells()
    for at in (0, 1):
        samples = [
            sample.model_copy(update={"filled": "restored" if sample.round else "prefill"})
            for sample in made[at].samples
        ]
        made[at] = made[at].model_copy(update={"samples": samples})
    found = next(item for item in compare(made) if item.metric == "prefill_tps")
    assert (found.rounds, found.interval, found.verdict) == (1, None, None)


def test_a_block_has_the_first_results_form(cells):
    blocks = depth_blocks(cells(depths=[123228]))
    assert list(blocks) == ["depth_2x2_123k"]
    row_ = blocks["depth_2x2_123k"].mtp_plus_swa
    assert (row_.accepted, row_.drafted, row_.acceptance, row_.crashed) == (39, 66, 0.591, False)
    assert blocks["depth_2x2_123k"].dense_only.decode_tps == 99.01
    assert "window 128, full layers 7" in blocks["depth_2x2_123k"].note


def test_block_keys_tell_depths_workloads_and_axes_apart(cells):
    made = cells(depths=[2048, 2500, 512], workloads=["code", {"file": "a b/c.txt"}], draft={"n_max": [1, 2]})
    keys = list(depth_blocks(made))
    assert len(keys) == 12
    assert keys[0] == "depth_2x2_2048_code_n1"
    assert "depth_2x2_512_file-a-b-c.txt_n2" in keys


def test_a_crashed_row_says_so_and_has_no_figures(cells):
    made = cells()
    made[3] = made[3].model_copy(update={"status": "crashed", "reason": "gone"})
    row_ = depth_blocks(made)["depth_2x2_2k"].mtp_plus_swa
    assert (row_.crashed, row_.decode_tps) == (True, None)


def test_servers_are_an_axis_whose_key_is_a_name(cells):
    made = cells(context={"rpc": [[], ["127.0.0.1:50052", "b:2"]]})
    here, there = groups(made)
    assert (here.suffix, there.suffix) == ("_rpc-none", "_rpc-127.0.0.1-50052,b-2")
    assert there.label.endswith("rpc 127.0.0.1:50052,b:2")
    assert {cell.id for cell in here.cells.values()}.isdisjoint(cell.id for cell in there.cells.values())
    assert len(depth_blocks(made)) == 2
