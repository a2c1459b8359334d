import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_tools.results.derive import derive

AT = "At depth 2048, maintenance_log, "
FAST = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
MODES = ["dense", "swa", "mtp", "swa+mtp"]


@pytest.fixture
def sentences(make_document):
    def make(change=None, load=0.1, **changes):
        found = derive(make_document(change, {"load_average": load}, **changes))
        return found.findings, found.caveats

    return make


@pytest.fixture
def planted(make_document, at_speed):
    """Findings and caveats where the modes decode, or prefill, at the given speeds; a list gives each round's."""

    def make(metric="decode", **speeds):
        def change(cells):
            found = []
            for cell in cells:
                wanted = speeds.get(cell.mode.replace("+", "_"))
                each = wanted if isinstance(wanted, list) else [wanted] * len(cell.samples)
                found.append(cell if wanted is None else at_speed(cell, *each, metric=metric))
            return found

        return derive(make_document(change))

    return make


def test_findings_carry_the_numbers(sentences):
    found, _ = sentences()
    at = AT
    assert at + "swa decodes 1.25 times as fast as dense (95% interval 1.25 to 1.25, 3 rounds)." in found
    stack = "the two levers together give 2.00, the window alone 1.25, the draft 1.11; super-additive"
    assert any(text.startswith(at + stack) and "1.44 times that (95% interval" in text for text in found)
    raised = "the window raises draft acceptance from 0.364 to 0.591 (single figures, no interval)."
    assert at + raised in found
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
    assert not any("swa+mtp decodes" in text or "acceptance" in text or "levers" in text for text in found)
    assert any(text.startswith("Confounded") and "swa+mtp against mtp at" in text for text in notes)
    assert any(
        text.startswith(AT + "swa+mtp costs") or "swa+mtp is not shown to prefill" in text for text in found
    )


def test_a_text_that_is_not_known_beside_texts_that_differ_is_confounded(sentences):
    def unknown(cells):
        ratios = (None, None, 0.9, 0.5)
        pairs = zip(cells, ratios, strict=True)
        return [cell.model_copy(update={"distinct_word_ratio": ratio}) for cell, ratio in pairs]

    found, notes = sentences(unknown)
    (note,) = [text for text in notes if text.startswith("Confounded")]
    assert "swa+mtp against swa at depth 2048 on maintenance_log (+60.0%)" in note
    assert any("swa decodes 1.25 times as fast as dense" in text for text in found)


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
    assert not any("mtp costs" in text and "of dense" in text for text in found)
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


speed = st.floats(1.0, 500.0)


@FAST
@given(a=speed, b=speed)
def test_a_gain_says_what_its_numbers_say(planted, a, b):
    text = next(
        text for text in planted(dense=a, swa=b).findings if "swa decode" in text or "swa is not" in text
    )
    if a == b:
        assert "swa is not shown to decode at another speed than dense" in text
    # The times are whole nanoseconds, so speeds that are all but equal may come out equal.
    elif abs(b / a - 1) > 1e-4:
        assert float(re.search(r"decodes ([\d.]+) times as fast as dense", text)[1]) == pytest.approx(
            b / a, abs=0.006
        )


@FAST
@given(dense=speed, swa=speed, mtp=speed, factor=st.floats(0.3, 3.0))
def test_the_stack_is_more_or_less_than_its_parts_as_the_rounds_have_it(planted, dense, swa, mtp, factor):
    both = swa * mtp / dense * factor
    noise = np.array([0.999, 1.0, 1.001])
    found = planted(dense=dense, swa=swa, mtp=mtp, swa_mtp=list(both * noise)).findings
    text = next(text for text in found if "the two levers together" in text)
    if factor > 1.01:
        assert "; super-additive" in text
    elif factor < 0.99:
        assert "; sub-additive" in text
    assert text.count("additive") + text.count("not shown") == 1
    assert float(re.search(r"([\d.]+) times that", text)[1]) == pytest.approx(factor, abs=0.006)


def test_a_stack_that_its_rounds_do_not_show_is_not_called_one(planted):
    found = planted(dense=10.0, swa=12.0, mtp=12.0, swa_mtp=[13.0, 16.0, 15.0]).findings
    text = next(text for text in found if "the two levers together" in text)
    assert "not shown to be more or less than the two multiply to" in text and "3 rounds" in text


@FAST
@given(dense=speed, mtp=speed)
def test_the_tax_on_prefill_is_what_the_speeds_say(planted, dense, mtp):
    found = planted("prefill", dense=dense, mtp=mtp).findings
    text = next(text for text in found if ", mtp " in text and "prefill" in text and " dense" in text)
    share = 1 - mtp / dense
    if abs(share) > 0.001:
        shown = float(re.search(r"(?:costs|gains) ([\d.]+)%", text)[1]) / 100
        assert shown == pytest.approx(abs(share), rel=0.01, abs=6e-4)
        assert ("costs" in text) == (share > 0)


def test_where_a_lever_pays_follows_the_speeds(make_document, at_speed):
    def with_swa_at(*speeds):
        """The sweep at two depths, dense at 100 tokens a second and swa at those given."""

        def change(cells):
            left = iter(speeds)
            plain = {"dense": lambda: 100.0, "swa": lambda: next(left)}
            return [at_speed(c, *[plain[c.mode]()] * 3) if c.mode in plain else c for c in cells]

        return derive(make_document(change, depths=[512, 2048])).findings

    start = "Decode of swa against dense: "
    assert (
        f"{start}faster in 2 of 2 (depth 512, maintenance_log; depth 2048, maintenance_log)."
        in with_swa_at(110.0, 120.0)
    )
    mixed = with_swa_at(90.0, 120.0)
    assert (
        f"{start}faster in 1 of 2 (depth 2048, maintenance_log), slower in 1 of 2 (depth 512, maintenance_log)."
        in mixed
    )
    assert any(text.startswith(start + "not shown to differ in 2 of 2") for text in with_swa_at(100.0, 100.0))


def with_steps(cells, mtp, both):
    """The cells of mtp and swa+mtp with so many of 3 drafted tokens accepted in each step, the same each round."""
    found = list(cells)
    for at, accepted in ((2, mtp), (3, both)):
        update = {"step_drafted": [3] * len(accepted), "step_accepted": list(accepted)}
        samples = [item.model_copy(update=update) for item in cells[at].samples]
        share = sum(accepted) / (3 * len(accepted))
        found[at] = cells[at].model_copy(update={"samples": samples, "acceptance": share})
    return found


def test_the_lift_of_acceptance_has_an_interval_over_the_steps_where_they_are_known(sentences):
    low, high = [1, 0, 2, 1] * 20, [3, 2, 3, 3] * 20
    for mtp, both, verb in ((low, high, "raises"), (high, low, "lowers")):
        found, _ = sentences(lambda cells, mtp=mtp, both=both: with_steps(cells, mtp, both))
        text = next(text for text in found if "draft acceptance" in text)
        assert f"the window {verb} draft acceptance from {sum(mtp) / 240:.3f}" in text
        assert "95% interval over the steps" in text
    found, _ = sentences(lambda cells: with_steps(cells, [3, 0, 2] * 5, [0, 3, 1] * 5 + [3]))
    assert any("the window is not shown to change draft acceptance" in text for text in found)


def test_more_rounds_of_the_same_text_make_no_lift_surer(sentences):
    """On a CPU a round drafts what the one before drafted: the interval must not shrink with their number."""
    found = {
        rounds: next(
            text
            for text in sentences(
                lambda cells: with_steps(cells, [1, 2] * 15, [2, 2, 3] * 10), rounds=rounds
            )[0]
            if "draft acceptance" in text
        )
        for rounds in (1, 8)
    }
    assert found[1] == found[8]


def test_what_was_asked_for_and_is_not_there_is_named(sentences):
    _, notes = sentences(lambda cells: cells[:3])
    (note,) = [text for text in notes if text.startswith("Asked for")]
    assert "swa+mtp d2048 maintenance_log" in note and "dense d2048" not in note
    _, notes = sentences()
    assert not any(text.startswith("Asked for") for text in notes)


def test_every_shipped_configuration_can_be_read_back_from_a_result(make_plan):
    from pathlib import Path

    from llamacpp_tools.results.asked import asked
    from llamacpp_tools.results.record import resolved
    from llamacpp_tools.results.schema import Document
    from llamacpp_tools.sweep.configfile import load_config
    from llamacpp_tools.sweep.plan import plan

    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")):
        config = load_config(path, need_model=False)
        stored = Document.model_construct(config=resolved(config), provenance=_Measured())
        again = asked(stored)
        assert again is not None and plan(again).cells == plan(config).cells, path


class _Measured:
    source = "measured"


def test_cells_with_forced_acceptance_say_nothing(make_document):
    plain = derive(make_document())

    def more(cells):
        forced = {"forced": True, "id": "forced", "decode_tps": None}
        return [
            *cells,
            cells[2].model_copy(update=forced),
            cells[3].model_copy(update={**forced, "id": "f2"}),
        ]

    assert derive(make_document(more)) == plain


def test_a_text_that_leaves_its_reference_is_noted(sentences):
    _, notes = sentences(lambda cells: [*cells[:3], cells[3].model_copy(update={"first_divergence": 7})])
    assert any(
        "swa+mtp at depth 2048 on maintenance_log leaves that of its reference at token 7" in t for t in notes
    )


def test_many_intervals_are_said_to_err_now_and_then(sentences):
    _, notes = sentences(depths=[512, 2048, 4096])
    assert "30 comparisons have an interval at 95% each: of so many equal pairs about 2" in "\n".join(notes)
    _, notes = sentences()
    assert "have an interval" not in "\n".join(notes)
