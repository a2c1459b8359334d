"""A watched text: what its drafts would have been worth, and that it is the text of plain decode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.trace import agreed, replay, runs
from llamacpp_tools.models.miniature import miniature

from ..conftest import ROOT

RUNS = st.lists(st.integers(0, 8), min_size=1, max_size=60)


def test_a_run_ends_at_the_first_wrong_draft_and_agreement_does_not() -> None:
    tokens = [5, 6, 7, 8, 9]
    # After 5: right, wrong, right. After 6: all right. After 7, whose text ends too early, nothing was drafted.
    predicted = [6, 0, 8, 7, 8, 9]
    assert runs(tokens, predicted, 3) == [1, 3]
    assert agreed(tokens, predicted, 3) == [2, 1, 2]


def test_a_replay_goes_from_step_to_step() -> None:
    # Tokens 0 to 6; steps stand at 0 (two accepted), 3 (none), 4 (cut to one, which is accepted).
    done = replay([2, 9, 9, 0, 3, 9, 9], 2)
    assert (done.drafted, done.accepted) == ((2, 2, 1), (2, 0, 1))
    assert done.steps == 3 and done.n_stepped == 6
    assert replay([4], 3).steps == 0


@given(RUNS, st.integers(0, 8))
def test_a_replay_makes_every_token_once(found: list[int], n_max: int) -> None:
    done = replay(found, n_max)
    assert done.n_stepped == len(found) - 1
    at = 0
    for drafted, accepted in zip(done.drafted, done.accepted, strict=True):
        assert accepted == min(drafted, found[at]) and drafted == min(n_max, len(found) - at - 2)
        at += accepted + 1
    if n_max == 0:
        assert done.steps == len(found) - 1 and not any(done.drafted)


@given(RUNS, st.integers(0, 7))
def test_where_runs_shorten_by_one_a_longer_draft_takes_no_more_steps(found: list[int], n_max: int) -> None:
    # As for a fixed chain of guesses: a run that is accepted to its end leaves the rest of it to the next position.
    for at in range(1, len(found)):
        found[at] = max(found[at], found[at - 1] - 1)
    assert replay(found, n_max + 1).steps <= replay(found, n_max).steps


# Of each test: one of a module would start before `make sanitize` has set its environment.
@pytest.fixture
def watched(patched: Build) -> Any:
    command = [sys.executable, "-m", "tests.engine.uses", "watches", str(patched.path), str(miniature())]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.build
def test_watching_leaves_the_text_alone(watched: Any) -> None:
    assert watched["tokens"] == watched["plain"] and len(watched["plain"]) == 124
    assert watched["again"] and len(set(watched["tokens"])) > 10
    for switch in ("no history", "before"):
        assert watched[switch][0] == watched["plain"]


@pytest.mark.build
def test_a_trace_tells_of_each_position(watched: Any) -> None:
    assert watched["runs"] == runs(watched["tokens"], watched["predicted"], 4)
    assert len(watched["runs"]) == 120 and len(watched["predicted"]) == 480
    assert watched["drafted"] == [4] * 120 + [0] * 3
    steps, least = watched["times"]
    assert steps == 123 and least >= 0
    assert watched["ticks"] == sorted(watched["ticks"])
    # A log is what the miniature has learnt to draft.
    assert sum(run > 0 for run in watched["runs"]) > 100


@pytest.mark.build
def test_a_text_that_is_given_is_gone_through_in_place_of_the_models_own(watched: Any) -> None:
    found = watched["given"]
    assert found["own"]
    assert found["tokens"] == found["other"] != watched["tokens"]
    assert found["runs"] == runs(found["other"], found["predicted"], 4)
    # What somebody else wrote is drafted right more seldom than what the model writes, but not never.
    assert 0 < sum(found["runs"]) < 0.7 * sum(watched["runs"])
    assert "123 tokens are given, 124 are gone through" in found["short"]
    assert "token -1 is not one of" in found["odd"]


@pytest.mark.build
@pytest.mark.parametrize("n_max", ["1", "2", "4"])
def test_a_replay_is_what_a_generation_does(watched: Any, n_max: str) -> None:
    tokens, drafted, accepted = watched["true"][n_max]
    assert tokens == watched["plain"][:120]
    done = replay(watched["runs"], int(n_max))
    # Several rows are added up in another order than one: where two drafts are as likely one may fall another way.
    assert abs(done.steps - len(drafted)) <= 2
    assert abs(sum(done.accepted) - sum(accepted)) <= 2


@pytest.mark.build
def test_the_switches_change_what_a_draft_sees(watched: Any) -> None:
    usual, alone, before = (
        sum(watched[name][1]) if name else sum(watched["runs"]) for name in ("", "no history", "before")
    )
    # Without the text before it a draft knows less; without the norm's weights it is off what it was trained on.
    assert alone < 0.9 * usual
    assert watched["before"][1] != watched["runs"] and before > 0.5 * usual


@pytest.mark.build
def test_what_cannot_be_watched_is_a_sentence(watched: Any) -> None:
    assert (
        watched["refused"]
        == "BadInput: there is nothing to watch: the session drafts nothing (n_max is not set)"
    )
    assert watched["room"].startswith("BadInput: 300 tokens of prompt and 725 to generate do not fit")
