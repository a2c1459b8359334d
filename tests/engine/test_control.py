from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.engine.account import Terms
from llamacpp_tools.engine.control import REASONS, Control, Settings, Why
from llamacpp_tools.engine.rehearsal import Machine, best_fixed, made_up, rehearse

# Step times of kinds of machine, in ms: attention is all (each row costs what the first does), weights are all (rows
# are nearly free) up to a kernel that takes eight columns, and a large model whose drafts are dear.
ROWS = Machine((1.0, 1.8, 2.7, 3.6, 4.5, 5.4, 6.3, 7.2, 8.1))
WEIGHTS = Machine((10.0, 11.5, 12.8, 14.0, 15.2, 16.4, 17.5, 18.6, 30.0))
DEAR = Machine((27.0, 45.0, 63.0, 81.0, 96.0, 110.0, 125.0, 140.0, 155.0))
STREAMED = Machine((9.1, 13.5, 14.5, 16.5, 18.0, 20.0, 21.5, 23.0, 25.0))
MACHINES = [ROWS, WEIGHTS, DEAR, STREAMED]


def text(chance: float, n: int, seed: int = 1) -> list[int]:
    return made_up(lambda token, position: chance, n, seed)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("chance", [0.0, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0])
def test_it_is_near_the_best_fixed_length_and_never_far_under_plain_decode(
    machine: Machine, chance: float
) -> None:
    each = [text(chance, 2000, seed) for seed in range(5)]
    auto = [rehearse(Control(8), runs, machine).ms for runs in each]
    fixed = [sum(rehearse(length, runs, machine).ms for runs in each) for length in range(9)]
    assert min(fixed) / sum(auto) > 0.96
    assert min(2000 * machine.step_ms[0] / ms for ms in auto) > 0.98


@pytest.mark.parametrize("chance", [0.5, 0.7, 0.85, 0.95])
def test_a_machine_that_is_slower_by_turns_does_not_lead_it_astray(chance: float) -> None:
    machine = Machine(STREAMED.step_ms, noise=0.05, slow=0.25)
    each = [(seed, text(chance, 2000, seed)) for seed in range(5)]
    auto = sum(rehearse(Control(8), runs, machine, seed).ms for seed, runs in each)
    fixed = min(sum(rehearse(n, runs, machine, seed).ms for seed, runs in each) for n in range(9))
    assert fixed / auto > 0.95


@pytest.mark.parametrize("machine", [WEIGHTS, DEAR, STREAMED])
@pytest.mark.parametrize(("before", "after"), [(0.1, 0.98), (0.98, 0.1)])
def test_on_a_text_that_changes_midway_it_beats_every_fixed_length(
    machine: Machine, before: float, after: float
) -> None:
    # Which text it is matters: one whose first half has drained the account finds out late.
    ratios = []
    for seed in range(6):
        runs = made_up(lambda token, _: before if token < 1000 else after, 2000, seed)
        ratios.append(rehearse(Control(8), runs, machine).tps / best_fixed(runs, machine)[1].tps)
    assert sum(ratios) / len(ratios) > 1.1
    assert min(ratios) > 0.97


# A probe after a while without drafts takes more than the account holds.
CATCHING_UP = Machine((1.0, 1.3, 1.6, 1.75, 2.0, 2.3, 2.6, 2.8, 3.1), 0.08, 0.05, 0.08, noise=0.1, slow=0.3)


def over_fixed(length: int, chance: float) -> list[float]:
    """32 texts on that machine, four to a controller: tokens per second over those of a fixed length."""
    ratios = []
    for number in range(8):
        control = Control(8)
        for seed in range(4 * number, 4 * number + 4):
            control.begin()
            runs = text(chance, 1500, seed)
            fixed = rehearse(length, runs, CATCHING_UP, seed)
            ratios.append(rehearse(control, runs, CATCHING_UP, seed).tps / fixed.tps)
    return ratios


def test_where_catching_up_is_dear_drafts_that_pay_are_not_given_up_for_it() -> None:
    # What is not drafted pays nothing back.
    assert min(over_fixed(3, 0.6)) > 0.9


def test_where_catching_up_is_dear_a_text_that_takes_no_drafts_is_left_alone() -> None:
    ratios = over_fixed(0, 0.1)
    assert sum(ratios) / len(ratios) > 0.985
    assert min(ratios) > 0.94


def test_a_probe_times_a_step_whatever_catching_up_took() -> None:
    # A first draft timed in a slow moment makes drafts look dear; a probe cut short by what catching up costs, before
    # it has timed a step, would leave that so for good.
    control, drafts, probes = Control(8), 0, 0
    for _ in range(1200):
        length = control.choose()
        if length == 0:
            assert drafts != 1, f"probe {probes} ended with the step that caught up"
            drafts = 0
            control.told(0, 0, 0, 1_000_000)
            continue
        drafts += 1
        probes += drafts == 1
        control.told(length, length, 8_000_000 if drafts == 1 else 0, 3_000_000 if probes == 1 else 1_500_000)
    assert probes > 1


@pytest.mark.parametrize("catching_up", [0.0, 2.0, 4.0, 6.0, 8.0])
@pytest.mark.parametrize("slow", [2.0, 3.0])
def test_drafts_given_up_for_one_slow_moment_are_found_to_pay(catching_up: float, slow: float) -> None:
    # All is accepted, and a draft of 1 takes 1.5 plain steps; but as many times that when it is tried first, and a
    # probe has to catch up, which overdraws the account.
    control, probes, before, drafts = Control(8), 0, 0, 0
    for _ in range(1200):
        length = control.choose()
        begins = length > 0 and before == 0
        probes += begins
        took = 1.5 + 0.15 * (length - 1) if length else 1.0
        pace = slow if probes == 1 and length else 1.0
        control.told(length, length, int(begins * catching_up * 1e6), int(took * pace * 1e6))
        before = length
        drafts += length > 0
    assert drafts > 600


@pytest.mark.parametrize("cold", [4, 8])
def test_a_plain_step_that_was_timed_while_all_was_slow_is_found_out(cold: int) -> None:
    # A process's first steps are; beside them every draft seems to pay, and each seems to pay into the account.
    machine = Machine((1.0, 1.2, 1.27, 1.33, 1.4, 1.47, 1.55, 1.65, 1.75), noise=0.1, cold=cold)
    ratios = []
    for seed in range(10):
        runs = text(0.02, 1500, seed)
        auto, plain = (rehearse(each, runs, machine, seed) for each in (Control(8), 0))
        ratios.append(auto.tps / plain.tps)
    assert sum(ratios) / len(ratios) > 0.93
    assert min(ratios) > 0.9


def test_a_cliff_is_learnt_and_not_stepped_over() -> None:
    went = rehearse(Control(8), text(0.98, 3000), WEIGHTS)
    assert went.time_share[7] > 0.6
    assert went.time_share[8] < 0.1


Policy = Callable[[int, int], int]


@given(
    plain=st.floats(0.2, 50.0),
    dearer=st.lists(st.floats(0.3, 2.0), min_size=8, max_size=8),
    outcomes=st.lists(st.integers(0, 8), min_size=1, max_size=1200),
    spiteful=st.booleans(),
)
def test_what_it_loses_against_plain_decode_is_bounded_whatever_happens(
    plain: float, dearer: list[float], outcomes: list[int], spiteful: bool
) -> None:
    # A step may take up to twice what its tokens would one by one: beyond that it counts as disturbed.
    times = [plain, *(plain * (n + 2) * factor for n, factor in enumerate(dearer))]
    # A spiteful text accepts all until the controller drafts long, and nothing from then on.
    terms = Terms()
    control = Control(8, Settings(terms))
    ms, tokens, burnt = 0.0, 0, False
    for outcome in outcomes:
        length = control.choose()
        assert 0 <= length <= 8
        burnt = burnt or length >= 4
        accepted = (0 if burnt else length) if spiteful else min(outcome, length)
        draft = 0.1 * times[length] if length else 0.0
        control.told(length, accepted, round(draft * 1e6), round((times[length] - draft) * 1e6))
        ms += times[length]
        tokens += accepted + 1
    overdrawn = max(0.0, max(times) - plain)
    lent = terms.allowance + terms.credit + terms.back + terms.loan
    bound = terms.share * ms + lent * plain + overdrawn + 1e-3
    assert ms - tokens * plain <= bound


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 10**9), st.integers(1, 10**9)),
        max_size=300,
    )
)
def test_it_takes_whatever_it_is_told(steps: list[tuple[int, int, int, int]]) -> None:
    control = Control(8)
    for drafted, accepted, draft_ns, verify_ns in steps:
        chosen = control.choose()
        assert 0 <= chosen <= 8
        assert control.why in REASONS
        # As at a text's end, fewer may be drafted than were chosen.
        done = min(drafted, chosen)
        control.told(done, min(accepted, done), draft_ns if done else 0, verify_ns)


@given(seed=st.integers(0, 10**6), chance=st.floats(0, 1))
def test_the_same_text_gives_the_same_steps(seed: int, chance: float) -> None:
    runs = text(chance, 300, seed)
    machine = Machine(STREAMED.step_ms, noise=0.05)
    assert rehearse(Control(8), runs, machine, seed) == rehearse(Control(8), runs, machine, seed)


def test_it_begins_with_plain_steps_and_then_asks_whether_a_draft_survives() -> None:
    control, seen = Control(4), []
    for _ in range(6):
        length = control.choose()
        seen.append((length, control.why))
        control.told(length, 0, 100 * length, 1000)
    assert seen[:4] == [(0, Why.CALIBRATE)] * 4
    assert seen[4] == (1, Why.PROBE)


def test_a_stall_in_the_first_draft_does_not_end_drafting() -> None:
    box, control = WEIGHTS, Control(8)
    stalled, lengths = False, []
    for _ in range(120):
        length = control.choose()
        lengths.append(length)
        stall = 0 if stalled or not length else 60_000_000
        stalled = stalled or bool(stall)
        control.told(length, length, 100_000 * length, int(box.step_ms[length] * 1e6) + stall)
    assert sum(length > 2 for length in lengths) > 60


def test_where_nothing_is_ever_accepted_drafts_become_rare_and_stay_possible() -> None:
    control, lengths = Control(8), []
    for _ in range(4000):
        length = control.choose()
        lengths.append(length)
        control.told(length, 0, 200_000 * length, 1_000_000 + 800_000 * length)
    assert 0 < sum(length > 0 for length in lengths[2000:]) < 40


def test_a_new_text_keeps_what_steps_cost_and_forgets_what_survived() -> None:
    control = Control(8)
    rehearse(control, text(0.95, 1000), WEIGHTS)
    control.begin()
    first = [control.choose()]
    for _ in range(5):
        control.told(first[-1], 0, 0, int(WEIGHTS.step_ms[first[-1]] * 1e6))
        first.append(control.choose())
    assert first[0] == 0, "plain steps are timed anew"
    assert max(first) > 0, "and then a draft is tried"
