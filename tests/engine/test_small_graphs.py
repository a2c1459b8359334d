"""Contexts that decode with drafts keep a graph for each small batch (the patch small-graphs)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build

from .conftest import decodes
from .decodes import PROMPT

pytestmark = pytest.mark.build


def test_batches_that_alternate_build_no_graph_anew(patched: Build, tiny: Path) -> None:
    found = decodes("alternating", patched, tiny)
    # All cells fit into one step of the mask's size: built is what the prompt needs, once.
    assert found["target"] >= found["steps"]
    assert found["draft"] >= found["drafted"] > 40


def test_the_tokens_are_those_of_one_graph_for_all(
    probe: Any, patched: Build, tiny: Path, tiny_dense: Path
) -> None:
    for model in (tiny, tiny_dense):
        asked = {"prompt": PROMPT, "n_predict": 60, "n_max": 3}
        kept = probe(patched, model, **asked)
        single = probe(patched, model, env={"LLAMA_GRAPH_REUSE_DISABLE": "1"}, **asked)
        assert list(kept["tokens"]) == list(single["tokens"])
        assert kept["compute_bytes"] > single["compute_bytes"]


def test_a_graph_of_the_warm_up_is_not_used_for_a_text(patched: Build, tiny: Path) -> None:
    # The warm-up runs all experts, which a graph's parameters do not tell.
    found = decodes("warm-up", patched, tiny)
    warm, cold = found["warmed"]
    assert warm != cold
    assert [cold] == found["fresh"]


def test_what_the_graphs_take_is_counted_where_nothing_is_allocated(patched: Build, tiny: Path) -> None:
    """As `llama-server --fit` counts it, before it decides what goes onto the GPU."""
    counted, there = decodes("foretold", patched, tiny)
    assert counted == there
