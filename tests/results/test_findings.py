import pytest

from llamacpp_tools.results.cells import row
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.findings import caveats, findings
from llamacpp_tools.results.schema import Provenance


@pytest.fixture
def sentences(make_plan, make_outcomes):
    def make(change=None, load=0.1, **changes):
        planned = make_plan(**changes)
        cells = [row(outcome) for outcome in make_outcomes(planned)]
        cells = change(cells) if change else cells
        comparisons = compare(cells)
        provenance = Provenance(source="measured", checkout_dirty=False, cpu_count=2, load_average=load)
        return findings(cells, comparisons), caveats(cells, comparisons, planned.config, provenance)

    return make


def test_findings_carry_the_numbers(sentences):
    found, _ = sentences()
    at = "At depth 2048, maintenance_log, "
    assert at + "swa decodes 1.25 times as fast as dense (95% interval 1.25 to 1.25, 3 rounds)." in found
    assert any("the two levers together give 2.00, more than the 1.39 that 1.25" in text for text in found)
    assert at + "the window raises draft acceptance from 0.364 to 0.591." in found
    assert at + "the window holds 3.0 MiB of KV cache instead of 12.0 MiB, 25%." in found


def test_no_difference_is_said_as_such(sentences):
    def same(cells):
        times = zip(cells[0].samples, (1.01, 1.1, 0.9), strict=True)
        samples = [item.model_copy(update={"decode_ns": int(item.decode_ns * by)}) for item, by in times]
        cells[1] = cells[1].model_copy(update={"samples": samples, "decode_tps": 99.0})
        return cells

    found, _ = sentences(same)
    assert any("swa is not shown to decode at another speed than dense" in text for text in found)


def test_confounded_comparisons_say_nothing(sentences):
    def other_text(cells):
        cells[3] = cells[3].model_copy(update={"distinct_word_ratio": 0.5})
        return cells

    found, notes = sentences(other_text)
    assert not any("swa+mtp decodes" in text or "acceptance" in text for text in found)
    assert any(text.startswith("Confounded") and "swa+mtp against mtp" in text for text in notes)


def test_caveats_name_failures_few_rounds_and_random_weights(sentences):
    def crash(cells):
        cells[3] = cells[3].model_copy(update={"status": "crashed", "reason": "GGML_ASSERT(x) failed"})
        return cells

    _, notes = sentences(crash)
    text = "\n".join(notes)
    assert "swa+mtp at depth 2048 on maintenance_log is crashed: GGML_ASSERT(x) failed" in text
    assert "random weights" in text
    assert "With 3 rounds per cell" in text


def changed(cells, **fields):
    """The cells with the first one's second round changed."""
    samples = list(cells[0].samples)
    samples[1] = samples[1].model_copy(update=fields)
    return [cells[0].model_copy(update={"samples": samples}), *cells[1:]]


def test_heat_and_neighbours_of_a_round_are_noted(sentences):
    _, notes = sentences(lambda cells: changed(cells, throttled=True, other_cpu=1.25))
    text = "\n".join(notes)
    assert "below nine tenths of the fastest round's in round 1 of dense at depth 2048" in text
    assert "Other programs took up to 1.2 CPUs in round 1 of dense" in text
    assert "No temperature sensor could be read" in text
    _, notes = sentences(lambda cells: [cells[0].model_copy(update={"temperature_c_max": 60.0}), *cells[1:]])
    assert "sensor" not in "\n".join(notes)


def test_restored_prefills_and_what_a_worker_noted_are_said(sentences):
    _, notes = sentences(lambda cells: changed(cells, filled="restored"))
    assert any(text.startswith("Rounds that say `restored`") for text in notes)
    assert not any("was measured when that was made" in text for text in notes)

    def all_restored(cells):
        samples = [item.model_copy(update={"filled": "restored"}) for item in cells[2].samples]
        return [*cells[:2], cells[2].model_copy(update={"samples": samples}), cells[3]]

    found, notes = sentences(all_restored)
    assert any("an earlier sweep: mtp at depth 2048 on maintenance_log" in text for text in notes)
    assert not any(", mtp prefills" in text for text in found)
    _, notes = sentences(
        lambda cells: [cells[0].model_copy(update={"notes": ["it was damaged"]}), *cells[1:]]
    )
    assert "dense at depth 2048 on maintenance_log: it was damaged." in notes


def test_rounds_of_different_runs_that_are_paired_are_said(sentences):
    _, notes = sentences(lambda cells: changed(cells, attempt=2))
    assert any(
        "measured in different runs of the sweep" in text and "swa against dense" in text for text in notes
    )


def test_a_window_that_cannot_bound_is_noted(sentences):
    _, notes = sentences(depths=[300], swa={"window": 256, "full_layers": []}, context={"n_ubatch": 512})
    assert any("the window of 256 saves no memory" in text for text in notes)
    _, notes = sentences()
    assert not any("saves no memory" in text for text in notes)


def test_a_busy_machine_is_noted(sentences):
    _, notes = sentences(load=3.25)
    assert "The machine was busy when the sweep began: load 3.2 on 2 CPU threads." in notes


def test_many_rounds_of_a_real_model_leave_only_the_general_caveat(sentences):
    _, notes = sentences(model="a.gguf", rounds=5)
    assert notes == [
        "No temperature sensor could be read, so heat was neither logged nor gated on.",
        "One model on one machine, a single stream with batch 1 and greedy decoding.",
    ]
