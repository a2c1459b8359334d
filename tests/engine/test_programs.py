"""The recipe through the flags of upstream's own programs is the recipe through the library."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
PROMPT = " ".join(f"room {n % 5} was checked at {n} and had no fault." for n in range(12))
RECIPE = ("--dynsparse-swa", "48", "--dynsparse-swa-full", "7")


def ran(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"}, check=False,
    )  # fmt: skip


def completion(build: Build, model: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    context = ("-c", "1024", "-ub", "128", "-b", "512", "-t", "2")
    greedy = ("-n", "40", "--temp", "0", "--top-k", "1", "--ignore-eos")
    quiet = ("-no-cnv", "--no-display-prompt", "--no-warmup")
    return ran(build.tool("llama-completion"), "-m", model, "-p", PROMPT, *context, *greedy, *quiet, *flags)


@pytest.mark.parametrize("model", ["tiny", "tiny_dense", "tiny_next"])
def test_the_flags_give_the_tokens_that_the_library_gives(
    probe: Probe, patched: Build, model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    through_flags = completion(patched, path, *RECIPE)
    assert through_flags.returncode == 0, through_flags.stderr[-2000:]
    sliding = probe(patched, path, text=PROMPT, n_predict=40, window=48, full_layers=[7])
    dense = probe(patched, path, text=PROMPT, n_predict=40)
    assert str(sliding["text"]).strip() == through_flags.stdout.strip()
    assert str(dense["text"]).strip() == completion(patched, path).stdout.strip()
    assert str(dense["text"]) != str(sliding["text"]), (
        "the recipe must change something for this to prove anything"
    )


BAD = {
    "no window": (("--dynsparse-swa-full", "7"), "dynsparse.swa"),
    "window 0": (("--dynsparse-swa", "0"), "window"),
    "negative window": (("--dynsparse-swa", "-5"), "window"),
    "out of range": (("--dynsparse-swa", "64", "--dynsparse-swa-full", "99"), "layer 99"),
    "recurrent": (("--dynsparse-swa", "64", "--dynsparse-swa-full", "2"), "recurrent"),
    "the MTP block": (("--dynsparse-swa", "64", "--dynsparse-swa-full", "8"), "MTP block"),
    "not a list": (("--dynsparse-swa", "64", "--dynsparse-swa-full", "7,"), "list of layer numbers"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_recipe_is_a_load_error_with_a_sentence(patched: Build, tiny: Path, what: str) -> None:
    flags, words = BAD[what]
    done = completion(patched, tiny, *flags)
    assert done.returncode > 0, "an error, not a signal and not silence"
    assert words in done.stdout + done.stderr


def test_llama_bench_takes_the_flags_and_names_the_recipe(patched: Build, tiny: Path) -> None:
    words = ("-m", tiny, "-p", "64", "-n", "8", "-r", "1", "-t", "2", "-o", "json")
    plain, sliding = (ran(patched.tool("llama-bench"), *words, *flags) for flags in ((), RECIPE))
    assert plain.returncode == sliding.returncode == 0, sliding.stderr[-2000:]
    names = [json.loads(done.stdout)[0]["model_type"] for done in (plain, sliding)]
    assert names[1].startswith(names[0])
    assert "48" in names[1]
    assert "48" not in names[0]
