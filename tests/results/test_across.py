import pytest

from llamacpp_tools.results.across import across
from llamacpp_tools.results.document import read
from llamacpp_tools.results.origins import differences
from tests.results.test_reference import PATH


@pytest.fixture
def base(make_document, at_speed):
    """A sweep of five rounds at 100 tokens a second, give or take one."""

    def change(cells):
        return [at_speed(cell, 99.0, 100.0, 101.0, 100.5, 99.5) for cell in cells]

    return make_document(change, rounds=5)


def with_cells(document, change):
    cells = [change(cell) for cell in document.cells]
    return document.model_copy(update={"cells": [cell for cell in cells if cell is not None]})


def slower(document, factor, at_speed, only=None, metric="decode"):
    """The document with its cells, or that of one mode, at `factor` times the speed."""

    def change(cell):
        if only is not None and cell.mode != only:
            return cell
        speeds = [
            (item.n_gen / item.decode_ns if metric == "decode" else item.n_prompt / item.prefill_ns) * 1e9
            for item in cell.samples
        ]
        return at_speed(cell, *[speed * factor for speed in speeds], metric=metric)

    return with_cells(document, change)


def with_provenance(document, **fields):
    return document.model_copy(update={"provenance": document.provenance.model_copy(update=fields)})


def test_a_file_against_itself_shows_nothing(base):
    found = across(base, base)
    assert not found.failed and not found.doubtful and not found.differences and not found.warnings
    assert [each.ratio for match in found.matched for each in match.ratios] == pytest.approx([1.0] * 8)
    assert {each.verdict for match in found.matched for each in match.ratios} == {"no difference shown"}
    assert {match.tokens for match in found.matched} == {"same"}
    assert found.compared == 8 and [each.metric for each in found.overall] == ["decode_tps", "prefill_tps"]


@pytest.mark.parametrize("metric", ["decode", "prefill"])
def test_one_cell_that_is_slower_is_a_regression_of_that_cell(base, at_speed, metric):
    found = across(base, slower(base, 0.8, at_speed, "mtp", metric))
    (text,) = [each for each in found.regressions if not each.startswith("over all")]
    assert text.startswith("mtp d2048") and f"{metric}s at 0.800 times the speed" in text
    assert found.failed
    back = across(slower(base, 0.8, at_speed, "mtp", metric), base)
    assert not back.failed
    assert "faster" in {each.verdict for match in back.matched for each in match.ratios}


def test_a_loss_within_what_passes_is_shown_and_no_failure(base, at_speed):
    slow = slower(base, 0.97, at_speed)
    found = across(base, slow, fail_over=0.05)
    assert not found.failed
    assert {match.ratios[0].verdict for match in found.matched} == {"slower"}
    assert across(base, slow, fail_over=0.02).failed


def test_what_the_rounds_do_not_show_is_said_and_no_failure(base, at_speed):
    noisy = with_cells(base, lambda cell: at_speed(cell, 60.0, 130.0, 70.0, 110.0, 80.0))
    found = across(noisy, slower(noisy, 0.95, at_speed))
    assert not found.failed
    assert len(found.doubtful) == 4 and "decodes at 0.950 times the speed" in found.doubtful[0]


def test_a_verdict_is_adjusted_for_the_number_of_cells(base, at_speed):
    """A p-value that is enough alone is not enough as one of eight; the note says how many there are."""
    noisy = with_cells(base, lambda cell: at_speed(cell, 96.0, 104.0, 100.0, 102.0, 98.0))
    found = across(noisy, slower(noisy, 0.94, at_speed, "mtp"))
    ratio = next(match.ratios[0] for match in found.matched if match.mode == "mtp")
    assert ratio.p_value < 0.05 < ratio.adjusted <= 8 * ratio.p_value * 1.0001
    assert ratio.interval[1] < 1 and ratio.verdict == "no difference shown" and not found.failed
    assert any("not enough among so many cells" in text for text in found.doubtful)
    assert any(text.startswith("8 ratios have an interval") for text in found.notes)


def test_a_loss_common_to_all_cells_shows_over_all(base, at_speed):
    noisy = with_cells(base, lambda cell: at_speed(cell, 96.0, 104.0, 100.0, 102.0, 98.0))
    found = across(noisy, slower(noisy, 0.95, at_speed))
    assert [each.startswith("over all cells B decodes at 0.950") for each in found.regressions] == [True]


def test_cells_that_were_ok_and_are_not_are_regressions(base):
    def crash(cell):
        return (
            cell.model_copy(update={"status": "crashed", "reason": "x[0] failed"})
            if cell.mode == "mtp"
            else cell
        )

    found = across(base, with_cells(base, crash))
    assert [match.lost for match in found.matched] == [False, False, True, False]
    assert found.regressions == [f"{base.cells[2].id} is crashed in B and was ok in A: x[0] failed"]
    assert not across(with_cells(base, crash), base).failed
    gone = across(base, with_cells(base, lambda cell: None if cell.mode == "mtp" else cell))
    assert gone.only_a == [base.cells[2].id]
    assert gone.regressions == [
        f"{base.cells[2].id} was ok in A and is missing in B, which was to measure it"
    ]


def test_cells_are_matched_by_their_parameters(base, make_document):
    other = make_document(swa={"window": 256, "full_layers": [7]}, rounds=5)
    found = across(base, other)
    assert [match.mode for match in found.matched] == ["dense", "mtp"]
    assert len(found.only_a) == len(found.only_b) == 2 and "w256" in found.only_b[0]
    assert not found.failed


def test_forced_cells_are_not_compared(base):
    forced = base.cells[2].model_copy(update={"forced": True, "id": "f"})
    both = base.model_copy(update={"cells": [*base.cells, forced]})
    found = across(both, both)
    assert len(found.matched) == 4
    assert any(
        text.startswith("With forced acceptance") and text.endswith("in A: 1.") for text in found.notes
    )


def test_tokens_acceptance_and_memory_are_compared(base):
    def change(cell):
        tokens = [*cell.output_tokens[:5], 999, *cell.output_tokens[6:]]
        update = {"output_tokens": tokens, "output_sha256": "other", "acceptance": 0.1, "kv_bytes": 5}
        return cell.model_copy(update=update) if cell.mode == "mtp" else cell

    match = across(base, with_cells(base, change)).matched[2]
    assert (match.tokens, match.first_divergence) == ("different", 5)
    assert (match.acceptance_a, match.acceptance_b) == (pytest.approx(8 / 22), 0.1)
    assert (match.kv_bytes_a, match.kv_bytes_b) == (12 << 20, 5)


@pytest.mark.parametrize(
    ("fields", "kinds", "warning"),
    [
        ({"model_filename": "other.gguf"}, ["model"], "THE TWO ARE OF DIFFERENT MODELS"),
        ({"cpu_info": "another"}, ["machine"], "MEASURED ON DIFFERENT MACHINES"),
        ({"driver": "RADV 25"}, ["conditions"], "What may explain a difference by itself: driver"),
        ({"libllama_sha256": "ab", "compiler": "gcc 13"}, ["code", "code"], None),
        ({"memory_bytes": 8 << 30}, ["machine"], "memory_gib"),
    ],
)
def test_what_differs_in_origin_is_named_and_weighed(base, fields, kinds, warning):
    found = across(base, with_provenance(base, **fields))
    assert [each.kind for each in found.differences] == kinds
    assert [warning in text for text in found.warnings] == ([True] if warning else [])


def test_a_few_bytes_of_memory_are_no_other_machine(base):
    ours, theirs = (with_provenance(base, memory_bytes=(8 << 30) + more) for more in (0, 4096))
    assert differences(ours, theirs) == []


def test_rounds_with_neighbours_are_warned_of(base):
    def busy(cell):
        samples = [item.model_copy(update={"other_cpu": 0.9}) for item in cell.samples]
        return cell.model_copy(update={"samples": samples})

    (warning,) = across(base, with_cells(base, busy)).warnings
    assert warning.startswith("Other programs took the processor in 20 of 20 rounds of B")


def test_published_figures_have_a_ratio_and_no_interval():
    reference = read(PATH)
    found = across(reference, reference)
    assert found.matched and not found.failed and not found.overall
    assert {ratio.interval for match in found.matched for ratio in match.ratios} == {None}
    assert {ratio.ratio for match in found.matched for ratio in match.ratios} == {1.0}
