"""A draft length that steers itself, through `llt sweep`: a row of its own that says what it did and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.control import REASONS, Why
from llamacpp_tools.results.schema import Document
from llamacpp_tools.results.steering import steering
from llamacpp_tools.sweep.protocol import RoundSample
from tests.conftest import Llt

CONFIG = """
name: steered
model: miniature
context: {n_ubatch: 128, threads: 1, type_kv: f32, flash_attn: false}
draft: {n_max: [0, 2, auto], limit: 6}
modes: [dense, mtp]
depths: [300]
workloads: [maintenance_log, {turns: [analysis, maintenance_log]}]
generate: {n_predict: 160}
rounds: 2
"""


@pytest.mark.build
def test_a_sweep_with_an_automatic_length(llt: Llt, patched: Build, tmp_path: Path) -> None:
    config, out = tmp_path / "steered.yaml", tmp_path / "steered.json"
    config.write_text(CONFIG)
    done = llt("sweep", str(config), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "n_max auto" in done.stdout and "n_max 0" in done.stdout
    cells = Document.model_validate(json.loads(out.read_text())).cells
    assert [(cell.n_max, cell.auto) for cell in cells] == 2 * [
        (None, False),
        (0, False),
        (2, False),
        (6, True),
    ]
    for of_a_text in (cells[:4], cells[4:]):
        assert {cell.status for cell in of_a_text} == {"ok"}
        assert len({tuple(cell.output_tokens or ()) for cell in of_a_text}) == 1
        auto = of_a_text[-1]
        assert auto.steering is not None
        assert sum(auto.steering.time_share.values()) == pytest.approx(1, abs=0.01)
        assert sum(auto.steering.reasons.values()) == pytest.approx(1, abs=0.01)
        assert auto.steering.switches >= 1
        assert auto.steering.best_fixed is not None and auto.steering.regret is not None
        assert all(len(sample.step_why) == sample.n_steps for sample in auto.samples)
    # Two turns of 80 tokens each, of which the first of each comes from a prefill.
    assert [cell.n_gen for cell in cells] == 4 * [159] + 4 * [158]
    assert [len(cell.output_tokens or ()) for cell in cells] == 8 * [160]
    findings = Document.model_validate(json.loads(out.read_text())).findings
    assert sum("the automatic length of mtp spent" in text for text in findings) == 2
    assert "All this is about fixed lengths" in llt("report", str(out)).stdout
    again = llt("sweep", str(config), "--out", str(out), "--resume")
    assert again.returncode == 0 and "every round was there already" in again.stderr


def a_round(steps: list[tuple[int, int, int, Why]]) -> RoundSample:
    """A round of (drafted, accepted, ns, why) steps."""
    drafted, accepted, step_ns, why = zip(*steps, strict=True)
    made = sum(accepted) + len(steps)
    return RoundSample(
        round=0, n_prompt=1, prefill_ns=1, n_gen=made, decode_ns=sum(step_ns), step_ns=list(step_ns), drafted=[],
        accepted=[], n_steps=len(steps), tokens=[0] * (made + 1), text="", step_drafted=list(drafted),
        step_accepted=list(accepted), step_draft_ns=[0] * len(steps), step_why=list(why),
    )  # fmt: skip


def test_steering_is_told_from_the_steps() -> None:
    plain, long = (0, 0, 100, Why.CALIBRATE), (2, 2, 150, Why.BEST)
    found = steering([a_round([plain] * 4 + [long] * 4)])
    assert found is not None
    assert found.time_share == {0: 0.4, 2: 0.6}
    assert found.reasons == {REASONS[Why.BEST]: 0.6, REASONS[Why.CALIBRATE]: 0.4}
    assert found.switches == 1
    # Drafts of 2 give 3 tokens in 150 ns; 16 tokens took 1,000.
    assert found.best_fixed == 2
    assert found.regret == pytest.approx(1 - 16 / 1000 / (3 / 150))


def test_a_length_without_a_settled_step_is_no_best_length() -> None:
    found = steering([a_round([(0, 0, 100, Why.CALIBRATE)] * 4 + [(3, 3, 1, Why.CLIMB)])])
    assert found is not None and found.best_fixed == 0


def test_nothing_stepped_tells_nothing() -> None:
    assert steering([]) is None
