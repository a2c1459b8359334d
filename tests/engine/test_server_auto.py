"""The patch spec-draft-auto: off it changes nothing, on it gives the tokens of plain greedy."""

from __future__ import annotations

import random
import re
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import completion, completion_beside, completions, llama_server
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.recast import recast
from llamacpp_tools.workloads import prompt_text
from tests.conftest import Llt, made

pytestmark = pytest.mark.build
SIZE = ("-c", "4096", "-ub", "128", "-b", "512", "-t", "2", "-ctk", "f32", "-ctv", "f32")
MTP = ("--spec-type", "draft-mtp", "--spec-draft-n-max", "4")
AUTO = (*MTP, "--spec-draft-auto")
# So heavy that drafts pay; with 60 MB they hardly do on a CPU with AMX whose third-level cache holds it all.
HEAVY = Ballast(weights=240_000_000, kv=0)
TOLD = re.compile(
    r"draft auto = steps by length \((.*?)\), (\d+) switches, (\d+) tokens not caught up with; (.*)"
)


@pytest.fixture(scope="module")
def without(llt: Llt) -> Build:
    """The build with all patches but this one."""
    return made(llt, "patched-without-spec-draft-auto", "--tools", "--without", "spec-draft-auto")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature in f32: in q8_0 tokens verified together may round otherwise than one at a time."""
    path = tmp_path_factory.mktemp("models") / "miniature-f32.gguf"
    recast(miniature(), path, "f32")
    return path


def prompts() -> list[str]:
    """A text that pays, one that pays less, and the first one again, longer: its beginning is in the prompt cache."""
    log, prose = prompt_text("maintenance_log", 2000), prompt_text("narrative", 2000)
    return [log[:1500], prose[:1500], log[:2500]]


def answers(
    build: Build, model: Path, *flags: str, log: Path | None = None, n: int = 200
) -> list[dict[str, Any]]:
    """What one server answers to the prompts, one after the other."""
    with llama_server(build, model, *SIZE, *flags, log=log) as where:
        return [completion(where, each, n, timeout_s=300, cache_prompt=True) for each in prompts()]


def counted(log: Path) -> list[tuple[dict[int, int], int, int, str]]:
    """Of each request: steps by draft length, switches, tokens that were never caught up with, and the reasons."""
    found = TOLD.findall(log.read_text(errors="replace"))
    return [
        (
            {int(n): int(count) for n, count in (pair.split(": ") for pair in steps.split(", "))},
            int(switches),
            int(skipped),
            why,
        )
        for steps, switches, skipped, why in found
    ]


@pytest.mark.parametrize("flags", [(), MTP], ids=["plain", "mtp"])
def test_without_the_flag_the_server_is_that_of_a_build_without_the_patch(
    patched: Build, without: Build, model: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert "spec-draft-auto" in patched.manifest.patches
    assert "spec-draft-auto" not in without.manifest.patches
    theirs = answers(without, model, *flags)
    ours = answers(patched, model, *flags, log=tmp_path / "log")
    for name in ("tokens", "content", "tokens_cached", "tokens_evaluated"):
        assert [each[name] for each in theirs] == [each[name] for each in ours], name
    for name in ("draft_n", "draft_n_accepted", "cache_n", "prompt_n", "predicted_n"):
        assert [each["timings"].get(name) for each in theirs] == [
            each["timings"].get(name) for each in ours
        ], name
    assert bool(ours[0]["timings"].get("draft_n")) == bool(flags)
    assert counted(tmp_path / "log") == []


def test_with_the_flag_tokens_are_those_of_plain_greedy_and_the_log_says_what_was_chosen(
    patched: Build, model: Path, tmp_path: Path
) -> None:
    plain = answers(patched, model, n=400)
    steered = answers(patched, model, *AUTO, log=tmp_path / "log", n=400)
    assert [each["tokens"] for each in steered] == [each["tokens"] for each in plain]
    told = counted(tmp_path / "log")
    assert len(told) == len(plain)
    assert any(steps.get(0, 0) > 0 for steps, _, _, _ in told)
    for each, (steps, switches, _, why) in zip(steered, told, strict=True):
        timings = each["timings"]
        # A step gives its accepted tokens and one more; the prompt gave the first, and the last step may not draft.
        missing = each["timings"]["predicted_n"] - timings.get("draft_n_accepted", 0) - sum(steps.values())
        assert 1 <= missing <= 2
        assert timings.get("draft_n", 0) == sum(length * count for length, count in steps.items())
        assert max(steps) <= 4
        assert switches < sum(steps.values())
        assert why
    drafted = sum(each["timings"].get("draft_n", 0) for each in steered)
    assert drafted > 0, "a controller that never drafts would prove nothing"
    assert len({tuple(each["tokens"]) for each in plain}) == len(plain)


def test_its_longer_drafts_survive_as_those_of_a_fixed_length_do(patched: Build, tmp_path: Path) -> None:
    """A draft goes on from the hidden row of the token before; from another token's it ends after its first."""
    heavy = miniature(HEAVY)
    fixed = answers(patched, heavy, "--spec-type", "draft-mtp", "--spec-draft-n-max", "3", n=200)[0]
    steered = answers(patched, heavy, *AUTO, log=tmp_path / "log", n=200)[0]
    steps, _, _, _ = counted(tmp_path / "log")[0]
    assert sum(count for length, count in steps.items() if length >= 2) > sum(steps.values()) / 2
    survive = [each["timings"]["draft_n_accepted"] / each["timings"]["draft_n"] for each in (fixed, steered)]
    assert survive[0] > 0.85 and survive[1] > survive[0] - 0.1


def test_after_a_long_time_without_a_draft_tokens_are_those_of_plain_decode_though_old_ones_are_left_out(
    patched: Build, model: Path, tmp_path: Path
) -> None:
    """It is made to write letters by chance, of which hardly a draft comes true, and then goes on as it will; catching
    up is dear on so small a model.
    """
    chance = random.Random(1)
    by_chance = "".join(chance.choice(string.ascii_lowercase) for _ in range(800))
    prompt = prompts()[1]
    # A byte that begins a character and is never followed by its others would be an error of the answer.
    forced = {"grammar": f'root ::= "{by_chance}" [ -~\\n]*'}
    found = []
    for flags in ((), AUTO):
        with llama_server(patched, model, *SIZE, *flags, log=tmp_path / "log") as where:
            found.append(completion(where, prompt, 1500, timeout_s=300, **forced))
    plain, steered = found
    assert steered["tokens"] == plain["tokens"]
    steps, _, skipped, why = counted(tmp_path / "log")[0]
    assert steps[0] > 200
    assert "probe" in why
    assert 0 < skipped < steps[0]


def together(
    build: Build, model: Path, *flags: str, log: Path | None = None, n: int = 200
) -> list[dict[str, Any]]:
    """What one server of two slots answers to two prompts at once."""
    with llama_server(build, model, *SIZE, *flags, "-np", "2", log=log) as where:
        return completions(where, prompts()[:2], n, timeout_s=300)


def test_two_slots_at_once_give_the_tokens_that_each_gives_alone(
    patched: Build, model: Path, tmp_path: Path
) -> None:
    alone = answers(patched, model, n=200)[:2]
    found = together(patched, model, *AUTO, log=tmp_path / "log")
    assert [each["tokens"] for each in found] == [each["tokens"] for each in alone]
    assert len(counted(tmp_path / "log")) == 2


def test_drafts_of_two_slots_at_once_survive_as_those_of_a_fixed_length_do(patched: Build) -> None:
    """Each goes on from a hidden row of its own; from another text's its second token would hardly ever be right."""
    heavy = miniature(HEAVY)
    fixed, steered = (together(patched, heavy, *flags, n=300) for flags in (MTP, AUTO))
    for theirs, ours in zip(fixed, steered, strict=True):
        survive = [
            each["timings"]["draft_n_accepted"] / each["timings"]["draft_n"] for each in (theirs, ours)
        ]
        assert survive[1] > survive[0] - 0.1


def beside(patched: Build, log: Path, n: int, n_short: int, gap_s: float) -> tuple[int, dict[int, int], str]:
    """A long answer of n tokens while short ones of n_short come and go: how many did, the long one's steps by draft
    length and the reasons for these.
    """
    long, text = prompts()[:2]
    with llama_server(patched, miniature(HEAVY), *SIZE, *AUTO, "-np", "2", log=log) as where:
        _, asked = completion_beside(
            where, long, n, lambda number: text[number : number + 300], n_short, gap_s, timeout_s=300
        )
    steps, _, _, why = max(counted(log), key=lambda each: sum(each[0].values()))
    return asked, steps, why


def test_short_requests_beside_a_long_one_do_not_make_it_forget(patched: Build, tmp_path: Path) -> None:
    asked, steps, why = beside(patched, tmp_path / "log", n=900, n_short=6, gap_s=0.15)
    assert asked >= 3
    # Each of them used to put off the next probe, for ever if they were frequent: 98 % of the steps had no draft.
    assert steps[0] < 0.5 * sum(steps.values())
    # And before that, to begin a text for the long one as well: probes in a fifth of all steps.
    probes = re.search(r"probe ([\d.]+)%", why)
    assert probes is not None and float(probes[1]) < 8


def test_short_answers_do_not_cut_the_drafts_of_a_long_one_beside_them(
    patched: Build, tmp_path: Path
) -> None:
    """An answer of 3 tokens has room for a draft of 2, then of 1 at most, if it drafts at all.

    No two steps in a row have the same number of requests, and so none was ever timed: no step had a draft. What is
    timed now has a change of the graph in it, and on a machine that pauses drafts may seem not to pay: the better of
    two answers.
    """
    found = [beside(patched, tmp_path / "log", n=600, n_short=3, gap_s=0.0) for _ in range(2)]
    asked, steps, _ = min(found, key=lambda each: each[1][0])
    assert asked > 20
    longer = sum(count for length, count in steps.items() if length > 2)
    assert longer > steps.get(1, 0) + steps.get(2, 0)
    assert longer > 0.1 * sum(steps.values())


REFUSED = {
    "no type": ((), "use --spec-type draft-mtp"),
    "another type": (("--spec-type", "ngram-simple"), "use --spec-type draft-mtp"),
    "a type beside it": (("--spec-type", "draft-mtp,ngram-simple"), "no other type"),
    "no length": (("--spec-type", "draft-mtp", "--spec-draft-n-max", "0"), "at least 1"),
    # Drafts that others cut short would be paid for and never heard of.
    "a least probability": ((*MTP, "--spec-draft-p-min", "0.5"), "no --spec-draft-p-min"),
    "a least length": ((*MTP, "--spec-draft-n-min", "2"), "no --spec-draft-n-min"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_where_it_cannot_steer_the_flag_is_an_error_at_the_start(patched: Build, what: str) -> None:
    flags, words = REFUSED[what]
    done = subprocess.run(
        [patched.tool("llama-server"), "-m", miniature(), *flags, "--spec-draft-auto"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stdout + done.stderr


def test_the_help_has_the_flag(patched: Build) -> None:
    done = subprocess.run(
        [patched.tool("llama-server"), "--help"], capture_output=True, text=True, check=True
    )
    assert "--spec-draft-auto" in done.stdout
