"""The recipe through the flags of upstream's own programs is the recipe through the library."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import completion, llama_server
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.recast import recast
from llamacpp_tools.workloads import prompt_text

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
PROMPT = " ".join(f"room {n % 5} was checked at {n} and had no fault." for n in range(24))
RECIPE = ("--dynsparse-swa", "16", "--dynsparse-swa-full", "7")


def ran(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"}, check=False,
    )  # fmt: skip


def completed(build: Build, model: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    context = ("-c", "1024", "-ub", "128", "-b", "512", "-t", "2")
    greedy = ("-n", "40", "--temp", "0", "--top-k", "1", "--ignore-eos")
    quiet = ("-no-cnv", "--no-display-prompt", "--no-warmup")
    return ran(build.tool("llama-completion"), "-m", model, "-p", PROMPT, *context, *greedy, *quiet, *flags)


def served(build: Build, model: Path, *flags: str, **asked: Any) -> dict[str, Any]:
    """What llama-server answers; forty greedy tokens unless `asked` says otherwise."""
    size = ("-c", "1024", "-ub", "128", "-b", "512", "-t", "2")
    prompt, n_predict = asked.pop("prompt", PROMPT), asked.pop("n_predict", 40)
    with llama_server(build, model, *size, *flags) as where:
        return completion(where, prompt, n_predict, timeout_s=120, **asked)


@pytest.mark.parametrize("model", ["tiny", "tiny_dense", "tiny_next"])
def test_the_flags_give_the_tokens_that_the_library_gives(
    probe: Probe, patched: Build, model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    sliding = probe(patched, path, text=PROMPT, n_predict=40, window=16, full_layers=[7])
    dense = probe(patched, path, text=PROMPT, n_predict=40)
    assert served(patched, path, *RECIPE)["tokens"] == sliding["tokens"].tolist()
    assert served(patched, path)["tokens"] == dense["tokens"].tolist()
    assert sliding["memory_bytes"] < dense["memory_bytes"], "the window must be on for this to prove anything"


@pytest.fixture(scope="module")
def miniature_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature in f32: in q8_0 a prompt that the server cuts into other batches may round to another token."""
    path = tmp_path_factory.mktemp("models") / "miniature-f32.gguf"
    recast(miniature(), path, "f32")
    return path


@pytest.mark.parametrize("workload", ["maintenance_log", "extraction"])
@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("n_max", [None, 3])
def test_llama_server_answers_the_same_200_tokens_and_counts_the_same_drafts(
    probe: Probe, patched: Build, miniature_f32: Path, n_max: int | None, window: int | None, workload: str
) -> None:
    text = prompt_text(workload, 2000)[:1500]
    recipe = {"window": window, "full_layers": [11]} if window else {}
    flags = ["--dynsparse-swa", str(window), "--dynsparse-swa-full", "11"] if window else []
    flags += ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(n_max)] if n_max else []
    types = {"type_k": "f32", "type_v": "f32"}
    theirs = served(patched, miniature_f32, "-ctk", "f32", "-ctv", "f32", *flags, prompt=text, n_predict=200)
    ours = probe(patched, miniature_f32, text=text, n_predict=200, n_max=n_max, **types, **recipe)
    assert len(theirs["tokens"]) == 200
    assert theirs["tokens"] == ours["tokens"].tolist()
    counts = [theirs["timings"].get(name, 0) for name in ("draft_n", "draft_n_accepted")]
    assert counts == [int(ours[name].sum()) for name in ("drafted", "accepted")]
    assert (counts[1] > 80) == bool(n_max)


def test_llama_server_draws_the_same_tokens_from_the_same_seed(
    probe: Probe, patched: Build, miniature_f32: Path
) -> None:
    drawn = {"seed": 7, "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
    theirs = served(patched, miniature_f32, "-ctk", "f32", "-ctv", "f32", n_predict=120, **drawn)
    ours, greedy = (
        probe(patched, miniature_f32, text=PROMPT, n_predict=120, sampling=how, type_k="f32", type_v="f32")
        for how in (drawn, None)
    )
    assert theirs["tokens"] == ours["tokens"].tolist() != greedy["tokens"].tolist()


@pytest.mark.parametrize("n_max", [None, 3])
def test_llama_server_answers_with_the_miniature_that_ships(
    probe: Probe, patched: Build, n_max: int | None
) -> None:
    flags = ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(n_max)] if n_max else []
    ours = probe(patched, miniature(), text=PROMPT, n_predict=40, n_max=n_max)
    assert served(patched, miniature(), *flags)["tokens"] == ours["tokens"].tolist()
    assert str(ours["text"]).isascii()


def test_llama_completion_takes_the_flags_too(probe: Probe, patched: Build, tiny: Path) -> None:
    done = completed(patched, tiny, *RECIPE)
    assert done.returncode == 0, done.stderr[-2000:]
    library = str(probe(patched, tiny, text=PROMPT, n_predict=40, window=16, full_layers=[7])["text"])
    # Its log thread may lose the end of stdout at exit (upstream's, seen at the pin): what came must agree.
    printed = done.stdout.strip()
    assert len(printed) > 20
    assert library.strip().startswith(printed)


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
    done = completed(patched, tiny, *flags)
    assert done.returncode > 0, "an error, not a signal and not silence"
    assert words in done.stdout + done.stderr


def test_llama_cli_takes_the_flags_too(patched: Build, tiny: Path) -> None:
    program = patched.tool("llama-cli")
    told = ran(program, "--help").stdout
    assert "--dynsparse-swa N" in told and "--dynsparse-swa-full L1,L2" in told
    bad = ran(program, "-m", tiny, "-t", "2", "-p", "x", "-n", "1", "--single-turn", *BAD["out of range"][0])
    assert bad.returncode > 0
    assert "layer 99" in bad.stdout + bad.stderr


def test_llama_bench_takes_the_flags_and_names_the_recipe(patched: Build, tiny: Path) -> None:
    words = ("-m", tiny, "-p", "64", "-n", "8", "-r", "1", "-t", "2", "-o", "json")
    plain, sliding = (ran(patched.tool("llama-bench"), *words, *flags) for flags in ((), RECIPE))
    assert plain.returncode == sliding.returncode == 0, sliding.stderr[-2000:]
    names = [json.loads(done.stdout)[0]["model_type"] for done in (plain, sliding)]
    assert names[1].startswith(names[0])
    assert "swa 16 full 7" in names[1]
    assert "swa" not in names[0]
