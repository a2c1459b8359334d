from dataclasses import replace

import pytest

from llamacpp_tools.results.cells import row, token_hash
from llamacpp_tools.sweep.outcome import CellOutcome


@pytest.fixture
def outcomes(make_plan, make_outcomes):
    return make_outcomes(make_plan())


def test_speeds_are_medians_and_every_sample_is_there(outcomes):
    cell = row(outcomes[0])
    assert cell.decode_tps == pytest.approx(100 / 1.01)
    assert cell.prefill_tps == pytest.approx(1000 / 1.01)
    assert cell.samples_ns == [100_000_000, 101_000_000, 102_000_000]
    assert cell.samples_ts == pytest.approx([100.0, 100 / 1.01, 100 / 1.02])
    assert cell.step_ms_p50 == pytest.approx(10.1)
    assert (cell.n_prompt, cell.n_gen, cell.n_steps) == (2048, 10, 30)
    assert len(cell.samples) == 3
    assert cell.decode_tps_interval[0] <= cell.decode_tps <= cell.decode_tps_interval[1]
    assert (cell.kv_bytes, cell.filled, cell.distinct_word_ratio) == (12 << 20, "prefill", 1.0)
    assert cell.output_sha256 == token_hash(range(11)) == cell.samples[2].output_sha256


def test_acceptance_is_over_all_rounds_and_null_without_mtp(outcomes):
    assert row(outcomes[0]).acceptance is None
    assert row(outcomes[0]).drafted is None
    cell = row(outcomes[2])
    assert (cell.drafted, cell.accepted) == (66, 24)
    assert cell.acceptance == pytest.approx(24 / 66)
    assert cell.drafted_per_position == [30, 24, 12]
    assert cell.accepted_per_position == [18, 6, 0]


def test_a_restored_depth_gives_no_prefill_speed(outcomes):
    first, second, third = outcomes[0].rounds
    mixed = replace(outcomes[0], rounds=(first, replace(second, filled="restored"), third))
    cell = row(mixed)
    assert cell.prefill_samples_ns == [first.prefill_ns, third.prefill_ns]
    assert [sample.filled for sample in cell.samples] == ["prefill", "restored", "prefill"]


def test_a_crashed_cell_keeps_its_reason_and_the_rounds_before(outcomes):
    never = row(CellOutcome(outcomes[3].spec, "crashed", "GGML_ASSERT(x) failed"))
    assert (never.status, never.reason, never.decode_tps) == ("crashed", "GGML_ASSERT(x) failed", None)
    assert never.samples == []
    later = row(replace(outcomes[3], status="crashed", reason="gone", rounds=outcomes[3].rounds[:1]))
    assert len(later.samples) == 1


def test_one_token_has_no_decode_speed(outcomes):
    sample = replace(outcomes[0].rounds[0], n_gen=0, decode_ns=0, step_ns=[], n_steps=0, tokens=[5])
    cell = row(replace(outcomes[0], rounds=(sample,)))
    assert cell.decode_tps is None
    assert cell.prefill_tps == pytest.approx(1000)
