"""Drafts after a long time without one: the MTP block catches up with the last tokens, or with all."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.control import Control, Settings, Why
from llamacpp_tools.engine.rehearsal import Machine, made_up, rehearse

from .conftest import decodes
from .decodes import DRAFTED, IDLE, PROMPT


@pytest.mark.build
def test_what_is_too_old_leaves_a_gap_in_the_blocks_cache_and_the_tokens_alone(
    patched: Build, tiny: Path
) -> None:
    found = decodes("waiting", patched, tiny)
    every, some, few, every_in_chunks, some_in_chunks = found["texts"]
    for text in found["texts"]:
        assert text["tokens"] == found["plain"]
        assert text["drafted"] == 2 * DRAFTED - 1
    tokens = len(PROMPT) + 2 * (IDLE + DRAFTED)
    cell = every["bytes"] / tokens
    # Twice, all that waited but the last 32, or, asked for fewer, but a step's own two.
    assert (every["bytes"] - some["bytes"]) / cell == pytest.approx(2 * (IDLE - 32), rel=0.02)
    assert (every["bytes"] - few["bytes"]) / cell == pytest.approx(2 * (IDLE - 2), rel=0.02)
    # A batch that is full is decoded, or what is too old in it goes.
    assert every_in_chunks["bytes"] == every["bytes"]
    assert some_in_chunks["bytes"] == some["bytes"]


def probed(each_ms: float, settings: Settings) -> tuple[Control, int]:
    """A text whose drafts are refused, with plain steps of 1 ms, and the longest wait before a probe."""
    control, waited, longest = Control(8, settings), 0, 0
    for _ in range(3000):
        length = control.choose()
        seen = min(waited, control.catch_up)
        if length and control.why is Why.PROBE:
            longest = max(longest, waited)
        waited = 0 if length else waited + 1
        control.told(length, 0, int(length * 1e5 + (seen * each_ms * 1e6 if length else 0)), 10**6)
    return control, longest


def test_where_it_is_cheap_all_is_caught_up_with() -> None:
    for each_ms in (0.0, 0.002):
        control, longest = probed(each_ms, Settings())
        assert control.catch_up > 4 * longest


def test_where_it_is_dear_what_takes_a_plain_step_is() -> None:
    control, _ = probed(0.02, Settings())
    # Half a step may be for other reasons.
    assert 50 <= control.catch_up <= 100
    control, _ = probed(0.2, Settings())
    assert control.catch_up == 8


def test_what_catching_up_takes_is_found_out_with_few_tokens() -> None:
    # Eight tokens take two thirds of a plain step, as on the miniature with flash attention (`catch-up.json`).
    machine = Machine((1.0, 2.1, 2.75, 3.35, 3.98, 4.6), draft=0.45, catch_up=0.08, noise=0.05, change=0.05)
    assert Control(machine.limit).catch_up == Settings().nearest
    for seed in range(12):
        runs = made_up(lambda *_: 0.1, 800, seed)
        plain = rehearse(0, runs, machine, seed).ms
        # 1 % of 800 and ten steps at most. All tokens of a long rest at once would take thirty.
        assert rehearse(Control(machine.limit), runs, machine, seed).ms < plain + 18, seed


def test_where_positions_must_follow_one_another_all_is() -> None:
    control, _ = probed(0.2, Settings(gaps=False))
    assert control.catch_up > 3000


def test_where_it_is_dear_the_end_of_a_text_that_takes_no_drafts_is_found() -> None:
    found = {}
    for gaps in (True, False):
        control, waited, drafted = Control(8, Settings(gaps=gaps)), 0, 0
        for step in range(2000):
            length = control.choose()
            seen = min(waited, control.catch_up) if length else 0
            waited = 0 if length else waited + 1
            accepted = length if step > 1000 else 0
            control.told(length, accepted, int(length * 1e5 + seen * 5e4), int((1 + 0.2 * length) * 1e6))
            drafted += bool(length) and step > 1000
        found[gaps] = drafted / 1000
    assert found[True] > 0.7
    assert found[False] < 0.1
