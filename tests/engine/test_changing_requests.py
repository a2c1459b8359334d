"""The steered server's rules where the number of requests that decode together changes, on made-up costs.

They are in C++ alone, as a sweep has one sequence: a small program drives the patch's own header.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from llamacpp_tools.engine.control import Why
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.upstream import load_upstream

from ..build.header import compilers
from ..conftest import PATCHES

pytestmark = pytest.mark.build

SEEDS = range(1, 9)


class Step(NamedTuple):
    requests: int
    drafted: int
    why: Why


Played = Callable[[str, int], list[Step]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Steps of the program beside this file, with a name and a seed."""
    stack = rebase(load_upstream(PATCHES), load_series(PATCHES))
    program = tmp_path_factory.mktemp("program") / "changing_requests"
    source = Path(__file__).with_name("changing_requests.cpp")
    command = [compilers()[1], "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-I", str(stack.tree_dir / "common"), str(source), "-o", str(program)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr

    def run(what: str, seed: int) -> list[Step]:
        done = subprocess.run([program, what, str(seed)], capture_output=True, text=True, check=True)
        rows = (map(int, line.split()) for line in done.stdout.splitlines())
        return [Step(requests, drafted, Why(why)) for requests, drafted, why in rows]

    return run


def test_what_lengths_cost_is_a_good_guess_for_another_number_of_requests(played: Played) -> None:
    for seed in SEEDS:
        known, anew = played("known", seed), played("anew", seed)
        assert Why.CALIBRATE not in {step.why for step in known}
        assert {step.why for step in anew[:4]} == {Why.CALIBRATE}
        assert all(step.drafted for step in known)
        tries = [sum(step.why is Why.CLIMB for step in steps) for steps in (known, anew)]
        assert tries[0] < tries[1]


def test_drafts_that_were_given_up_come_back_while_the_number_changes_with_each_step(played: Played) -> None:
    for seed in SEEDS:
        steps = played("returns", seed)
        assert sum(step.drafted > 0 for step in steps[-200:]) > 190


def test_a_number_that_comes_up_for_single_steps_joins_in_with_the_drafts_of_another(played: Played) -> None:
    for seed in SEEDS:
        alone = [step for step in played("joins", seed)[200:] if step.requests == 1]
        assert len(alone) == 100
        assert sum(step.drafted > 2 for step in alone) > 80
