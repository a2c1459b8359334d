"""An MTP block in a file of its own drafts what it drafts inside the whole model: here and in llama-server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.server import completion, llama_server
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.extract import extract_mtp
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.workloads import prompt_text
from tests.models.parts import split, without_mtp

from .conftest import Refused

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
RECIPES: dict[str, dict[str, Any]] = {"full": {}, "windowed": {"window": 64, "full_layers": [11]}}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract_mtp(miniature(), tmp_path_factory.mktemp("head") / "mtp.gguf").path


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("workload", ["maintenance_log", "extraction"])
def test_a_session_accepts_the_same(
    probe: Probe, patched: Build, head: Path, recipe: str, workload: str
) -> None:
    asked = {"text": prompt_text(workload, 2000)[:1500], "n_predict": 200, "n_max": 3, **RECIPES[recipe]}
    combined = probe(patched, miniature(), **asked)
    separate = probe(patched, miniature(), draft_model=str(head), **asked)
    for name in ("tokens", "drafted", "accepted", "memory_bytes", "draft_bytes"):
        assert np.array_equal(separate[name], combined[name]), name
    assert combined["accepted"].sum() > 80


@pytest.mark.parametrize("recipe", RECIPES)
def test_llama_server_accepts_the_same(patched: Build, head: Path, recipe: str) -> None:
    text = prompt_text("extraction", 2000)[:1500]
    flags = ["-c", "1024", "-ub", "128", "-b", "512", "-t", "2", "--spec-type", "draft-mtp"]
    flags += ["--spec-draft-n-max", "3"]
    flags += ["--dynsparse-swa", "64", "--dynsparse-swa-full", "11"] if RECIPES[recipe] else []
    found = []
    for more in ([], ["-md", str(head)]):
        with llama_server(patched, miniature(), *flags, *more) as where:
            answer = completion(where, text, 200, timeout_s=120)
        timings = answer["timings"]
        found.append((answer["tokens"], timings["draft_n"], timings["draft_n_accepted"]))
    assert found[0] == found[1]
    assert found[0][2] > 80


def test_a_model_that_lost_its_head_drafts_with_the_file(
    probe: Probe, patched: Build, head: Path, tmp_path: Path
) -> None:
    trunk = without_mtp(miniature(), tmp_path / "trunk.gguf")
    asked = {"text": prompt_text("extraction", 2000)[:1500], "n_predict": 100, "n_max": 3}
    combined = probe(patched, miniature(), **asked)
    separate = probe(patched, trunk, draft_model=str(head), **asked)
    assert np.array_equal(separate["tokens"], combined["tokens"])
    assert np.array_equal(separate["accepted"], combined["accepted"])
    with pytest.raises(Refused, match="has no MTP block"):
        probe(patched, trunk, **asked)


def test_a_split_model_is_loaded_and_extracted_whichever_part_is_named(
    probe: Probe, patched: Build, head: Path, tmp_path: Path
) -> None:
    parts = split(miniature(), tmp_path, 100)
    assert len(parts) == 3
    asked = {"text": prompt_text("extraction", 2000)[:600], "n_predict": 40, "n_max": 3}
    whole = probe(patched, miniature(), **asked)
    for part in parts:
        found = probe(patched, part, **asked)
        assert np.array_equal(found["tokens"], whole["tokens"])
        assert np.array_equal(found["accepted"], whole["accepted"])
    again = extract_mtp(parts[2], tmp_path / "again.gguf").path
    from_parts = probe(patched, miniature(), draft_model=str(again), **asked)
    assert np.array_equal(from_parts["accepted"], whole["accepted"])


def test_a_file_that_cannot_draft_is_refused(
    probe: Probe, patched: Build, head: Path, tiny: Path, tiny_next: Path
) -> None:
    asked = {"text": "a", "n_predict": 4, "n_max": 3}
    for other in (tiny, tiny_next):
        with pytest.raises(Refused, match=r"cannot draft for .*: it takes an MTP block of the same"):
            probe(patched, miniature(), draft_model=str(other), **asked)
    with pytest.raises(Refused, match="holds nothing but an MTP block"):
        probe(patched, head, **asked)
    with pytest.raises(Refused, match="holds nothing but an MTP block"):
        probe(patched, head, **asked | {"n_max": None})
    with pytest.raises(Refused, match="n_max does not say"):
        probe(patched, miniature(), draft_model=str(head), **asked | {"n_max": None})
