"""A profile before the first text: what lengths cost is known when it begins."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace

import pytest

from llamacpp_tools.engine.control import Chooser, Control
from llamacpp_tools.engine.profile import PASSES, STEPS, Turns, passes, room
from llamacpp_tools.engine.rehearsal import Machine, Rehearsal, made_up, profiled, rehearse

STREAMED = Machine((9.1, 13.5, 14.5, 16.5, 18.0, 20.0, 21.5, 23.0, 25.0))
FLAT = Machine((1.0, 1.45, 1.62, 1.78, 2.0, 2.25, 2.5, 2.8, 3.1))


def text(chance: float, n: int, seed: int) -> list[int]:
    return made_up(lambda token, position: chance, n, seed)


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_every_length_is_timed_as_often_as_the_others_and_at_the_same_time_in_the_mean(limit: int) -> None:
    every = passes(limit)
    assert len(every) == PASSES
    order = [length for lengths in every for length in lengths]
    assert Counter(order) == dict.fromkeys(range(limit + 1), PASSES * STEPS)
    when = [
        statistics.fmean(at for at, one in enumerate(order) if one == length) for length in range(limit + 1)
    ]
    assert len(set(when)) == 1, "a machine that becomes slower would make some seem dearer"
    assert all(sum(length + 1 for length in lengths) < room(limit) for lengths in every)


def test_turns_are_what_was_given_and_the_controller_hears_of_each() -> None:
    heard: list[tuple[int, ...]] = []

    class Listener(Control):
        def told(self, drafted: int, accepted: int, draft_ns: int, verify_ns: int) -> None:
            heard.append((drafted, accepted, draft_ns, verify_ns))

    turns = Turns(Listener(3), [2, 0])
    assert (turns.choose(), turns.choose()) == (2, 0)
    turns.told(2, 1, 30, 70)
    assert heard == [(2, 1, 30, 70)]


def profiled_or_not(machine: Machine, chance: float, seeds: int) -> dict[bool, list[Rehearsal]]:
    found: dict[bool, list[Rehearsal]] = {True: [], False: []}
    for known, went in found.items():
        for seed in range(seeds):
            control: Chooser = Control(machine.limit)
            if known:
                profiled(control, text(chance, room(machine.limit), 1000 + seed), machine, 1000 + seed)
            went.append(rehearse(control, text(chance, 700, seed), machine, seed))
    return found


@pytest.mark.parametrize("machine", [STREAMED, FLAT])
@pytest.mark.parametrize("chance", [0.7, 0.85, 0.95])
def test_a_first_text_after_a_profile_is_faster_than_one_without(machine: Machine, chance: float) -> None:
    found = profiled_or_not(replace(machine, noise=0.08), chance, 12)
    known, unknown = (sum(went.quiet_ms for went in found[which]) for which in (True, False))
    assert known < unknown


@pytest.mark.parametrize("machine", [STREAMED, FLAT])
def test_where_no_draft_survives_it_costs_no_more_than_without(machine: Machine) -> None:
    found = profiled_or_not(replace(machine, noise=0.08), 0.05, 12)
    plain = 700 * machine.step_ms[0]
    assert min(plain / went.quiet_ms for went in found[True]) > 0.97
    known, unknown = (sum(went.quiet_ms for went in found[which]) for which in (True, False))
    assert known < 1.005 * unknown
