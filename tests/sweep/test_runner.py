import json
from dataclasses import replace

import pytest

from llamacpp_tools.errors import BadInput, Interrupted
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.gate import Gate
from llamacpp_tools.sweep.heat import Reading, Thermometer
from llamacpp_tools.sweep.journal import Journal, journal_path
from llamacpp_tools.sweep.local import LocalStation
from llamacpp_tools.sweep.runner import Sinks, SweepStopped


class Told(Sinks):
    """Writes down what it is told, in order."""

    def __init__(self, and_then=lambda what, spec: None):
        self.rounds, self.faults, self.comparisons = [], [], []
        self.and_then = and_then

    def round(self, spec, sample):
        self.rounds.append((spec.mode, sample.round))
        self.and_then("round", spec)

    def fault(self, spec, fault):
        self.faults.append((spec.mode, fault.status))

    def comparison(self, outcomes):
        self.comparisons.append(len(outcomes))


def test_modes_take_turns_forward_and_backward(run, raw):
    told = Told()
    found = run(rounds=3, sinks=told)
    modes = ["dense", "swa", "mtp", "swa+mtp"]
    turns = [*modes, *reversed(modes), *modes]
    assert told.rounds == [(mode, at // 4) for at, mode in enumerate(turns)]
    assert [outcome.status for outcome in found] == ["ok"] * 4
    assert [outcome.spec.index for outcome in found] == [0, 1, 2, 3]
    assert all(outcome.attempts == 1 and outcome.wall_s > 0 for outcome in found)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_round_has_a_process_of_its_own_unless_workers_are_kept(run, fresh):
    pids = []
    true_round = LocalStation.round

    def spy(self, order, on_event, watch):
        pids.append(self.pid)
        return true_round(self, order, on_event, watch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalStation, "round", spy)
        found = run(rounds=3, fresh=fresh)
    assert len(pids) == 12
    assert len(set(pids)) == (12 if fresh else 4)
    assert [outcome.attempts for outcome in found] == [1] * 4


def test_depths_and_workloads_are_comparisons_of_their_own(run):
    told = Told()
    run(depths=[600, 700], rounds=1, sinks=told)
    assert told.comparisons == [4, 8]
    assert [mode for mode, _ in told.rounds] == ["dense", "swa", "mtp", "swa+mtp"] * 2


def test_one_crash_leaves_the_other_cells_and_what_was_measured_before(run):
    told = Told()
    found = run("swa+mtp=abort@1", sinks=told)
    assert [outcome.status for outcome in found] == ["ok", "ok", "ok", "crashed"]
    assert "GGML_ASSERT" in found[3].reason
    assert [len(outcome.rounds) for outcome in found] == [2, 2, 2, 1]
    assert told.faults == [("swa+mtp", "crashed")]


def test_bad_input_ends_the_sweep_after_keeping_what_is_there(run, journal):
    with pytest.raises(BadInput, match="told to say bad_input"):
        run("mtp=bad_input")
    assert sum(len(cell.rounds) for cell in journal().cells.values()) == 2


def test_a_resumed_sweep_runs_what_is_missing_or_failed_and_nothing_else(run):
    first = run("mtp=abort@1")
    assert [outcome.status for outcome in first] == ["ok", "ok", "crashed", "ok"]
    told = Told()
    found = run(sinks=told)
    assert told.rounds == [("mtp", 1)]
    assert [outcome.status for outcome in found] == ["ok"] * 4
    assert [outcome.attempts for outcome in found] == [1, 1, 2, 1]
    assert [len(outcome.rounds) for outcome in found] == [2] * 4
    told = Told()
    assert [outcome.rounds for outcome in run(sinks=told)] == [outcome.rounds for outcome in found]
    assert told.rounds == []


def test_a_stale_identity_is_measured_again(run):
    run()
    told = Told()
    found = run(identity={"model": "b", "libraries": "c", "device": "another"}, sinks=told)
    assert len(told.rounds) == 8
    assert [outcome.attempts for outcome in found] == [1] * 4


def test_more_rounds_are_added_to_those_that_are_there(run):
    run(rounds=2)
    told = Told()
    found = run(rounds=3, sinks=told)
    assert told.rounds == [("dense", 2), ("swa", 2), ("mtp", 2), ("swa+mtp", 2)]
    assert [[sample.round for sample in outcome.rounds] for outcome in found] == [[0, 1, 2]] * 4


def test_a_cell_is_measured_as_often_as_it_asks_beside_one_that_asks_for_more(run):
    def planned(usual):
        cells = [replace(cell, rounds=1 if cell.mtp else cell.rounds) for cell in usual.cells]
        return replace(usual, cells=tuple(cells))

    found = run(rounds=3, planned=planned)
    assert [len(outcome.rounds) for outcome in found] == [3, 3, 1, 1]
    assert [outcome.status for outcome in found] == ["ok"] * 4


def test_rounds_are_added_until_they_are_enough(run):
    seen = []

    def enough(outcomes):
        seen.append(len(outcomes[0].rounds))
        return seen[-1] >= 4

    found = run(enough=enough, most_rounds=10)
    assert seen == [2, 3, 4]
    assert [len(outcome.rounds) for outcome in found] == [4] * 4
    found = run(enough=lambda outcomes: False, most_rounds=5)
    assert [len(outcome.rounds) for outcome in found] == [5] * 4


def test_a_stop_lets_the_round_finish_and_the_next_run_goes_on(run, journal):
    def stop(what, spec):
        if spec.mode == "swa":
            told.stop.asked = True

    told = Told(stop)
    with pytest.raises(Interrupted, match="stopped after round 1 of swa"):
        run(sinks=told)
    assert told.rounds == [("dense", 0), ("swa", 0)]
    told = Told()
    found = run(sinks=told)
    assert ("dense", 0) not in told.rounds and len(told.rounds) == 6
    assert [outcome.status for outcome in found] == ["ok"] * 4


def test_a_failure_beyond_the_rounds_asked_for_leaves_the_cell_as_it_is(run):
    found = run("dense=abort@3", enough=lambda outcomes: False, most_rounds=5)
    assert [outcome.status for outcome in found] == ["ok"] * 4
    assert [len(outcome.rounds) for outcome in found] == [3, 5, 5, 5]
    assert "a further round was not measured (crashed: GGML_ASSERT" in found[0].notes[0]


def test_a_stop_is_heeded_also_where_the_round_failed(run):
    told = Told()
    told.fault = lambda spec, fault: setattr(told.stop, "asked", True)
    with pytest.raises(Interrupted, match="stopped before round 1 of swa "):
        run("dense=abort", sinks=told)
    assert told.rounds == []


def test_an_invalid_cell_is_filled_anew_when_it_is_tried_again(run, journal):
    run(rounds=1)
    with Journal(journal_path(journal.path)) as opened:
        key = next(key for key, cell in opened.cells.items())
        opened.ended(key, "invalid", "its tokens were others", 0.0, None)
        assert opened.cell(key).distrusted and not opened.cell(key).rounds
    orders = []
    true_round = LocalStation.round

    def spy(self, order, on_event, watch):
        orders.append(order)
        return true_round(self, order, on_event, watch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalStation, "round", spy)
        assert [outcome.status for outcome in run(rounds=2)] == ["ok"] * 4
    again = [order for order in orders if order.renew]
    assert [(order.number, order.prefill) for order in again] == [(0, True)]
    assert len(orders) == 5


class Heating:
    """A sensor that warms up by some degrees at each look."""

    def __init__(self, *temperatures):
        self.temperatures = list(temperatures)

    def read(self):
        return Reading(
            self.temperatures.pop(0) if len(self.temperatures) > 1 else self.temperatures[0], 3000.0
        )


def gate(limits, *temperatures):
    now = [0.0]

    def clock():
        now[0] += 2.0
        return now[0]

    return Gate(Thermometer(Heating(*temperatures), clock), limits, wait_s=3.0, sleep=lambda s: None)


def test_a_machine_that_heats_up_stops_the_sweep_with_a_row(run, limits, monkeypatch):
    monkeypatch.setenv("FAKE_ROUND_S", "1")
    with pytest.raises(SweepStopped, match="95 °C is above `abort_c`, 90 °C"):
        run(gate=gate(limits, 50.0, 60.0, 95.0))
    monkeypatch.delenv("FAKE_ROUND_S")
    found = run(peek=True)
    assert [(outcome.spec.mode, outcome.status) for outcome in found] == [("dense", "thermal")]
    assert [outcome.status for outcome in run()] == ["ok"] * 4


def test_a_round_waits_for_a_cool_machine(run, limits):
    told = Told()
    waits = []
    told.cooling = lambda now_c, until_c: waits.append((now_c, until_c))
    run(sinks=told, gate=gate(limits, 80.0, 75.0, 60.0))
    assert waits == [(80.0, 70.0), (75.0, 70.0)]


def test_a_machine_that_stays_warm_stops_the_sweep_in_the_cell_that_waits(run, limits):
    with pytest.raises(SweepStopped, match="stays at 80 °C and does not cool down"):
        run(rounds=1, depths=[600, 700], gate=gate(limits, *[50.0] * 8, 80.0))
    found = run(rounds=1, depths=[600, 700], peek=True)
    hot = [outcome for outcome in found if outcome.status == "thermal"]
    assert len(hot) == 1 and not hot[0].rounds
    assert [outcome.status for outcome in run(rounds=1, depths=[600, 700])] == ["ok"] * 8


def test_the_readings_are_kept_with_their_rounds(run):
    found = run(gate=gate(None, 50.0, 51.0, 52.0, 53.0))
    heats = [conditions.heat for outcome in found for conditions in outcome.conditions]
    assert all(heat.temperature_c and heat.clock_mhz[0] == 3000.0 for heat in heats)


class Small:
    """Room for one cell, and for none with MTP."""

    def refusal(self, spec):
        return "it needs 9 GiB" if spec.mtp else None

    def holds(self, specs):
        return len(specs) <= 1

    def full_kv_bytes(self, spec):
        return 1 << 40


def test_what_cannot_fit_is_a_row_and_the_rest_is_measured_one_at_a_time(run):
    found = run(room=Small(), fresh=False)
    assert [outcome.status for outcome in found] == ["ok", "ok", "skipped", "skipped"]
    assert found[2].reason == "it needs 9 GiB"


def test_notes_of_a_worker_are_kept(run, journal, config):
    run()
    with Journal(journal_path(journal.path)) as open_journal:
        key = next(iter(open_journal.cells))
        open_journal.noted(key, "something")
    assert run()[0].notes == ("something",)


def test_a_torn_last_line_is_cut_off(run, journal):
    run()
    path = journal_path(journal.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    lost = json.loads(whole.splitlines()[-1])
    assert lost["entry"] == "end"
    assert [outcome.status for outcome in run()] == ["ok"] * 4
    assert path.read_bytes().startswith(whole[: whole.rindex(b"\n", 0, -1) + 1])


def test_a_journal_that_is_none_is_refused(journal):
    journal_path(journal.path).write_text('{"entry": "nonsense", "key": "a"}\n')
    with pytest.raises(BadInput, match=r"line 1, is no entry of a journal"):
        journal()


def test_two_sweeps_do_not_write_one_journal(journal):
    with Journal(journal_path(journal.path)), pytest.raises(BadInput, match="another llt sweep"):
        Journal(journal_path(journal.path))


def test_ids_of_equal_cells_are_equal(config):
    from llamacpp_tools.sweep.plan import plan

    cells = plan(config).cells
    assert len({cell_id(cell) for cell in cells}) == len(cells)
    assert cell_id(replace(cells[0], index=9, rounds=7)) == cell_id(cells[0])
