from pathlib import Path

import pytest

from llamacpp_tools.report.story import Story, stories
from llamacpp_tools.results.schema import Heat, StepCost

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference" / "qwen3.6-mtp-swa.json"
BALLAST = ROOT / "results" / "miniature" / "ballast_2x2.json"
ACCEPTANCE = ROOT / "results" / "miniature" / "acceptance.json"
LAB = ROOT / "results" / "miniature" / "acceptance_lookahead.json"
# What a result file from elsewhere might say.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
HOSTILE += "\"'`[/red]$\\frac{|=1+1\x1b[31m\x00\u202e</style></svg>&amp;"


@pytest.fixture(scope="session")
def published() -> Story:
    """The reference file: no rounds, no intervals."""
    return stories([REFERENCE])[0]


@pytest.fixture(scope="session")
def measured() -> Story:
    """A real 2x2 with three rounds."""
    return stories([BALLAST])[0]


@pytest.fixture(scope="session")
def lab() -> Story:
    """A real result of `llt acceptance`."""
    return stories([LAB])[0]


def changed(story, cells=None, **fields):
    """The same story with other cells or fields; what followed from the cells is dropped with them."""
    if cells is not None:
        fields |= {"cells": cells, "comparisons": [], "findings": []}
    return Story(story.path, story.result.model_copy(update=fields), story.name)


@pytest.fixture(scope="session")
def full(measured):
    """The measured 2x2 with what this machine has no sensors for and what only newer sweeps measure."""

    def heated(sample, at):
        count = len(sample.heat.at_s)
        temperatures = [50.0 + at + 0.1 * n for n in range(count)]
        clocks = [2600.0 - 3.0 * n for n in range(count)]
        heat = Heat(
            at_s=sample.heat.at_s, temperature_c=temperatures, clock_mhz=clocks, power_w=[None] * count
        )
        return sample.model_copy(update={"heat": heat})

    cells = []
    for at, cell in enumerate(measured.result.cells):
        update = {"samples": [heated(sample, at) for sample in cell.samples]}
        if cell.n_max:
            update |= {"draft_ms": 4.0, "verify_ms": 30.5}
        cells.append(cell.model_copy(update=update))
    mtp = next(cell for cell in cells if cell.mode == "mtp")
    costs = [
        StepCost(
            n_max=n,
            n_steps=20,
            step_ms=31.0 + 2 * n,
            draft_ms=2.0 * n,
            verify_ms=31.0,
            step_ms_interval=[30.0, 40.0],
        )
        for n in (1, 2, 3)
    ]
    forced = {
        "id": "forced",
        "forced": True,
        "decode_tps": None,
        "acceptance": None,
        "samples": [],
        "step_costs": costs,
    }
    return changed(measured, [*cells, mtp.model_copy(update=forced)])


@pytest.fixture(scope="session")
def hostile(measured):
    """The measured 2x2 with markup, terminal codes and formulas wherever a file can have text of its own."""
    cells = [
        cell.model_copy(update={"workload": HOSTILE, "notes": [HOSTILE]} | (
            {"status": "crashed", "reason": HOSTILE} if cell.mode == "mtp" else {}
        ))
        for cell in measured.result.cells
    ]  # fmt: skip
    provenance = measured.result.provenance.model_copy(update={"device": HOSTILE, "model_filename": HOSTILE})
    texts = dict.fromkeys(("experiment", "box", "model", "what", "date"), HOSTILE)
    config = {**measured.result.config, HOSTILE: HOSTILE, "name": HOSTILE}
    told = changed(measured, cells, provenance=provenance, caveats=[HOSTILE], config=config, **texts)
    return Story(told.path, told.result, HOSTILE)
