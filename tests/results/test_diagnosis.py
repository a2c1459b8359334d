import pytest

from llamacpp_tools.results.diagnosis import diagnose
from llamacpp_tools.results.schema import Heat
from llamacpp_tools.results.yardstick import Yardstick, take

FAST = [99.0, 100.0, 101.0, 100.5, 99.5]
MODES = {"modes": ["dense", "swa+mtp"]}


@pytest.fixture
def run(make_document, at_speed):
    """A run of the matrix as planted: speeds, sensors, neighbours, yardstick, provenance."""

    def make(
        factor=1.0,
        *,
        clock=3600.0,
        celsius=60.0,
        other=0.0,
        hashes=1.0,
        copies=1.0,
        tokens=None,
        **provenance,
    ):
        def change(cells):
            return [planted(cell) for cell in cells]

        def planted(cell):
            speeds = [speed * factor for speed in FAST]
            cell = at_speed(at_speed(cell, *speeds), *speeds, metric="prefill")
            heat = Heat(at_s=[0.0], temperature_c=[celsius], clock_mhz=[clock], power_w=[None])
            update = {"heat": heat, "other_cpu": other}
            samples = [item.model_copy(update=update) for item in cell.samples]
            told = {"output_sha256": tokens} if tokens else {}
            return cell.model_copy(update={"samples": samples, **told})

        known = {"libllama_sha256": "a1", "kernel": "Linux 6.1", "stack_head": "51", **provenance}
        found = make_document(change, known, rounds=5, **MODES)
        measured = Yardstick(
            hash_mb_s=[hashes * speed for speed in FAST], copy_gb_s=[copies * speed / 10 for speed in FAST]
        )
        return found.model_copy(update={"runs": [{"yardstick": measured.model_dump()}]})

    return make


def weights(found):
    return {each.cause: each.weight for each in found.evidence}


def test_the_same_again_is_fine(run):
    found = diagnose(run(), run())
    assert (found.outcome, found.slower, found.changed_tokens) == ("as fast", False, None)
    assert len(found.sentences) == 1
    assert found.sentences[0].startswith(
        "As fast as the baseline of 2026-11-21 10:30: it decodes at 1.00 times"
    )


def test_faster_is_said_and_no_failure(run):
    found = diagnose(run(), run(1.3))
    assert (found.outcome, found.slower) == ("faster", False)
    assert found.sentences[0].startswith("Faster than the baseline")


def test_heat(run):
    found = diagnose(run(), run(0.7, clock=2500.0, celsius=95.0))
    assert found.outcome == "slower" and found.slower
    assert weights(found)["heat"] == "shown"
    assert (
        "Heat: the clock is at 2,500 MHz, 3,600 MHz then, and the hottest chip is at 95 °C, 60 °C then."
        in (found.sentences)
    )
    assert not any("the code" in text.lower() for text in found.sentences)


def test_a_lower_clock_that_no_heat_explains(run):
    found = diagnose(run(celsius=None), run(0.7, clock=2500.0, celsius=None))
    assert weights(found)["clock"] == "shown"
    assert any(text.startswith("A lower clock: the clock is at 2,500 MHz") for text in found.sentences)


def test_heat_without_a_clock_is_only_possible(run):
    found = diagnose(run(clock=None), run(0.7, clock=None, celsius=95.0))
    assert weights(found)["heat"] == "possible"
    assert any(
        text.startswith("It may be heat") or text.startswith("Most likely heat") for text in found.sentences
    )


def test_a_chip_that_is_hotter_at_the_same_clock_is_not_the_cause(run):
    found = diagnose(run(), run(0.7, celsius=80.0))
    assert weights(found)["heat"] == "ruled out"
    assert any(text.startswith("Not heat: the hottest chip is at 80 °C") for text in found.sentences)


def test_neighbours(run):
    found = diagnose(run(), run(0.5, other=1.3))
    assert weights(found)["neighbours"] == "shown"
    assert "Neighbours: other programs took 1.3 CPUs in the middle round, 0.0 then." in found.sentences


def test_neighbours_that_were_there_before_explain_nothing(run):
    assert weights(diagnose(run(other=1.3), run(0.5, other=1.3)))["neighbours"] == "ruled out"


def test_driver_kernel_and_device_are_named(run):
    found = diagnose(run(), run(0.8, kernel="Linux 6.9", driver="RADV 25"))
    assert weights(found)["driver"] == "possible"
    text = next(text for text in found.sentences if "driver, the system or the device" in text)
    assert text.startswith("Most likely the driver") and "kernel is Linux 6.9, Linux 6.1 then" in text
    assert "driver is RADV 25, None then" in text


def test_code_alone_with_a_machine_as_it_was_is_the_likely_cause(run):
    found = diagnose(run(), run(0.8, libllama_sha256="b2"))
    assert weights(found)["code"] == "possible" and weights(found)["machine"] == "ruled out"
    assert "Most likely the code: libllama_sha256 is b2, a1 then." in found.sentences


def test_code_and_kernel_together_are_not_told_apart(run):
    found = diagnose(run(), run(0.8, libllama_sha256="b2", kernel="Linux 6.9"))
    assert sum(text.startswith("It may be ") for text in found.sentences) == 2
    assert not any(text.startswith("Most likely") for text in found.sentences)


def test_the_whole_machine_is_slower(run):
    found = diagnose(run(), run(0.8, hashes=0.8, copies=0.7, libllama_sha256="b2"))
    assert weights(found)["machine"] == "shown"
    text = next(text for text in found.sentences if text.startswith("The whole machine is slower"))
    assert "one core hashes at 0.80 times the speed and memory is copied at 0.70 times the speed" in text
    assert any(text.startswith("What may have its part in it: libllama_sha256") for text in found.sentences)


def test_the_old_library_beside_the_new_one_shows_that_it_is_the_code(run):
    then, now = run(), run(0.8, libllama_sha256="b2")
    shown = diagnose(then, now, beside=(run(), now))
    assert weights(shown)["code"] == "shown"
    text = next(text for text in shown.sentences if text.startswith("The code: "))
    assert "the present one decodes at 0.80 times its speed" in text


def test_the_old_library_beside_the_new_one_shows_that_it_is_not_the_code(run):
    then, now = run(), run(0.8, libllama_sha256="b2")
    cleared = diagnose(then, now, beside=(run(0.8), now))
    assert weights(cleared)["code"] == "ruled out"
    assert any(
        text.startswith("Not the code: in turns with the baseline's library") for text in cleared.sentences
    )
    assert "Slower for no reason seen here." in cleared.sentences


def test_slower_with_nothing_that_differs(run):
    found = diagnose(run(), run(0.8))
    assert found.slower
    assert any(text.startswith("Slower for no reason seen here") for text in found.sentences)
    assert set(weights(found).values()) == {"ruled out"}


def test_other_tokens_are_said_whatever_the_speed(run):
    found = diagnose(run(), run(tokens="other", libllama_sha256="b2"))
    assert (found.outcome, found.slower) == ("as fast", False)
    assert found.sentences[-1] == "The tokens are other ones in 2 of 2 modes, since the code changed."
    found = diagnose(run(), run(tokens="other"))
    assert found.sentences[-1].endswith("and nothing that was looked at has changed.")


def test_a_mode_that_no_longer_runs(run):
    now = run(kernel="Linux 6.9")
    crashed = now.cells[1].model_copy(update={"status": "crashed", "reason": "x[0] failed"})
    found = diagnose(run(), now.model_copy(update={"cells": [now.cells[0], crashed]}))
    assert (found.outcome, found.slower) == ("failed", True)
    assert "x[0] failed" in found.sentences[0] and "kernel is Linux 6.9" in found.sentences[1]


def test_a_baseline_without_a_yardstick_or_sensors_still_serves(run):
    bare = run(clock=None, celsius=None, other=None).model_copy(update={"runs": []})
    found = diagnose(bare, run(0.8, clock=None, celsius=None, other=None))
    assert found.slower and found.evidence == []


def test_one_cell_alone_is_judged_by_itself(run):
    alone = [each.model_copy(update={"cells": each.cells[:1]}) for each in (run(), run(0.8))]
    found = diagnose(*alone)
    assert found.slower and "it decodes at 0.80 times the speed" in found.sentences[0]


def test_the_yardstick_is_a_measurement():
    found = take(2) + take(1)
    assert len(found.hash_mb_s) == len(found.copy_gb_s) == 3
    assert min(found.hash_mb_s) > 10 and min(found.copy_gb_s) > 0.1
