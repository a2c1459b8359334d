"""Off means off, greedy means greedy, and a window that covers everything is no window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.kvbytes import kv_bytes, mtp_kv_bytes

from .conftest import TEXT

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
MODELS = ("tiny", "tiny_dense", "tiny_next")


@pytest.mark.parametrize("model", MODELS)
def test_with_the_recipe_off_logits_are_those_of_the_stock_library(
    probe: Probe, stock: Build, alike: Build, model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    theirs, ours = (probe(build, path, text=TEXT, n_predict=24, logits=True) for build in (stock, alike))
    assert len(ours["prompt"]) > 500
    assert np.array_equal(theirs["logits"].view(np.uint32), ours["logits"].view(np.uint32))
    assert np.array_equal(theirs["tokens"], ours["tokens"])


@pytest.mark.parametrize("model", ["tiny", "tiny_dense"])
def test_with_the_recipe_off_mtp_does_what_the_stock_library_does(
    probe: Probe, stock: Build, alike: Build, model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    theirs, ours = (
        probe(build, path, text=TEXT, n_predict=48, n_max=3, logits=True) for build in (stock, alike)
    )
    assert theirs["drafted"].sum() > 0
    for name in ("tokens", "drafted", "accepted", "memory_bytes"):
        assert np.array_equal(theirs[name], ours[name]), name
    assert np.array_equal(theirs["logits"].view(np.uint32), ours["logits"].view(np.uint32))


@pytest.mark.parametrize("model", ["tiny", "tiny_dense"])
def test_mtp_iswa_alone_changes_nothing(
    probe: Probe, stock: Build, only_mtp_iswa: Build, model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    assert only_mtp_iswa.manifest.patches == ["mtp-iswa"]
    theirs, ours = (
        probe(build, path, text=TEXT, n_predict=48, n_max=3, logits=True) for build in (stock, only_mtp_iswa)
    )
    assert theirs["drafted"].sum() > 0
    for name in ("tokens", "drafted", "accepted", "memory_bytes"):
        assert np.array_equal(theirs[name], ours[name]), name
    assert np.array_equal(theirs["logits"].view(np.uint32), ours["logits"].view(np.uint32))


@pytest.mark.parametrize("window", [None, 96])
@pytest.mark.parametrize("model", ["tiny", "tiny_dense"])
def test_mtp_greedy_is_plain_greedy_token_for_token(
    probe: Probe, patched: Build, model: str, window: int | None, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    recipe = {"window": window, "full_layers": [7] if window else []}
    plain = probe(patched, path, text=TEXT, n_predict=200, **recipe)
    drafted = probe(patched, path, text=TEXT, n_predict=200, n_max=3, **recipe)
    assert drafted["n_rs_seq"] == 3
    assert len(plain["tokens"]) == 200
    assert 0 < drafted["accepted"].sum() <= drafted["drafted"].sum()
    assert np.array_equal(plain["tokens"], drafted["tokens"])
    assert len(set(plain["tokens"].tolist())) > 20, "a text of one token would prove nothing"


@pytest.mark.parametrize("model", MODELS)
def test_a_window_as_long_as_the_context_is_dense_to_the_bit(
    probe: Probe, patched: Build, model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    dense = probe(patched, path, text=TEXT, n_predict=8, logits=True)
    covered = probe(patched, path, text=TEXT, n_predict=8, logits=True, window=1024)
    assert np.array_equal(dense["logits"].view(np.uint32), covered["logits"].view(np.uint32))


@pytest.mark.parametrize("window", [33, 256])
def test_the_first_position_that_differs_is_the_windows_length(
    probe: Probe, patched: Build, tiny: Path, window: int
) -> None:
    dense = probe(patched, tiny, text=TEXT, n_predict=8, logits=True)["logits"]
    sliding = probe(patched, tiny, text=TEXT, n_predict=8, logits=True, window=window)["logits"]
    count = min(len(dense), len(sliding))
    differs = np.flatnonzero((dense[:count] != sliding[:count]).any(axis=1))
    assert differs[0] == window


@pytest.mark.parametrize(("type_k", "type_v"), [("f16", "f16"), ("q4_1", "q4_1"), ("q8_0", "f16")])
@pytest.mark.parametrize("n_max", [None, 3])
def test_kv_bytes_are_the_recipes_arithmetic_to_the_byte(
    probe: Probe, patched: Build, tiny: Path, type_k: str, type_v: str, n_max: int | None
) -> None:
    header = check_gguf(tiny)
    shared = {
        "text": TEXT,
        "n_predict": 4,
        "n_max": n_max,
        "type_k": type_k,
        "type_v": type_v,
        "flash_attn": "on",
    }
    measured = {}
    for window, full in ((None, []), (64, [7]), (64, [])):
        found = probe(patched, tiny, window=window, full_layers=full, **shared)
        expected = kv_bytes(
            header,
            1024,
            128,
            type_k,
            type_v,
            window=window,
            full_layers=full,
            n_rs_seq=n_max or 0,
            n_batch=512,
        )
        assert int(found["memory_bytes"]) == expected.total
        measured[window, len(full)] = expected.total
        if n_max:
            assert int(found["draft_bytes"]) == mtp_kv_bytes(header, 1024, type_k, type_v)
    assert measured[64, 0] < measured[64, 1] < measured[None, 0]


def test_ignoring_the_end_never_chooses_a_token_that_ends(probe: Probe, patched: Build, tiny: Path) -> None:
    ended = probe(patched, tiny, text=TEXT, n_predict=64, ignore_eos=False)
    forced = probe(patched, tiny, text=TEXT, n_predict=64, ignore_eos=True)
    assert len(forced["tokens"]) == 64
    assert len(ended["tokens"]) <= 64
