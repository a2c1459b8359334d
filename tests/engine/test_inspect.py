"""The bytes that `llt model inspect` foretells are those that libllama takes, and what it advises can be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.server import completion, llama_server
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.miniature import miniature

from ..conftest import Llt

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
DEPTH, N_MAX = 4096, 2
TYPES = ("f16", "q8_0", "q4_1")


@pytest.fixture(scope="module")
def told(llt: Llt) -> dict[str, Any]:
    done = llt(
        "model", "inspect", miniature(), "--depth", DEPTH, "--kv", ",".join(TYPES), "--n-max", N_MAX, "--json"
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize("type_kv", TYPES)
@pytest.mark.parametrize("mode", ["dense", "swa", "mtp", "swa+mtp"])
def test_the_bytes_are_libllamas(
    probe: Probe, patched: Build, told: dict[str, Any], mode: str, type_kv: str
) -> None:
    row = next(each for each in told["memory"] if (each["mode"], each["type_kv"]) == (mode, type_kv))
    assert row["depth"] == DEPTH
    start = told["start"]
    recipe = {"window": start["window"], "full_layers": start["full_layers"]} if "swa" in mode else {}
    n_max = N_MAX if "mtp" in mode else None
    found = probe(
        patched, miniature(), text="the sea", n_predict=1, n_ctx=DEPTH, n_batch=2048, n_ubatch=512, n_max=n_max,
        type_k=type_kv, type_v=type_kv, flash_attn="on", **recipe,
    )  # fmt: skip
    assert row["target_kv"] + row["recurrent"] == int(found["memory_bytes"])
    assert row["draft_kv"] == int(found.get("draft_bytes", 0))
    assert row["compute"] >= int(found["compute_bytes"])
    assert (int(found["n_rs_seq"]) == N_MAX) == (n_max is not None)


def test_llama_server_takes_the_flags(patched: Build, told: dict[str, Any]) -> None:
    with llama_server(patched, miniature(), "-c", "1024", "-t", "2", *told["start"]["flags"]) as where:
        answer = completion(where, "room 3 was checked and had no fault. room 4 was", 12, timeout_s=120)
    assert len(answer["tokens"]) == 12
    assert answer["timings"]["draft_n"] > 0
