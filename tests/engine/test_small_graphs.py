"""Contexts that decode with drafts keep a graph for each small batch (the patch small-graphs)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.model import Model
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import Library, open_library

pytestmark = pytest.mark.build
# One thread: what is compared is compared to the bit.
OPTIONS = ContextOptions(n_ctx=256, n_batch=64, n_ubatch=32, n_threads=1, n_rs_seq=3)
PROMPT = list(range(100, 140))
N_PREDICT = 60


@pytest.fixture(scope="module")
def library(patched: Build) -> Library:
    return open_library(patched)


@pytest.fixture
def session(library: Library, tiny: Path) -> Iterator[Session]:
    with Session(library, tiny, SessionOptions(OPTIONS, n_max=3, ignore_eos=True)) as opened:
        yield opened


def reused(context: Context) -> int:
    """Decodes that found their graph."""
    return int(context.model.library.lib.llama_perf_context(context.handle).n_reused)


def test_batches_that_alternate_build_no_graph_anew(session: Session) -> None:
    assert session.draft is not None
    session.go_on(session.fill(PROMPT), N_PREDICT, drafts=(3, 1, 0))
    before = reused(session.target), reused(session.draft)
    done = session.go_on(session.fill(PROMPT), N_PREDICT, drafts=(3, 1, 0))
    target, draft = reused(session.target) - before[0], reused(session.draft) - before[1]
    # All cells fit into one step of the mask's size: built is what the prompt needs, once.
    steps = len(done.step_drafted)
    assert target >= steps
    assert draft >= sum(done.step_drafted)


def test_the_tokens_are_those_of_one_graph_for_all(
    probe: Any, patched: Build, tiny: Path, tiny_dense: Path
) -> None:
    for model in (tiny, tiny_dense):
        asked = {"prompt": PROMPT, "n_predict": N_PREDICT, "n_max": 3}
        kept = probe(patched, model, **asked)
        single = probe(patched, model, env={"LLAMA_GRAPH_REUSE_DISABLE": "1"}, **asked)
        assert list(kept["tokens"]) == list(single["tokens"])
        assert kept["compute_bytes"] > single["compute_bytes"]


def test_a_graph_of_the_warm_up_is_not_used_for_a_text(library: Library, tiny: Path) -> None:
    # The warm-up runs all experts, which a graph's parameters do not tell.
    lib, ffi = library.lib, library.ffi

    def logits(warm: bool) -> np.ndarray:
        with Model(library, tiny) as model, Context(model, OPTIONS) as context:
            batch = ffi.new("llama_token[]", [5, 6])
            found = []
            for warming in (True, False) if warm else (False,):
                lib.llama_set_warmup(context.handle, warming)
                context.clear()
                assert lib.llama_decode(context.handle, lib.llama_batch_get_one(batch, 2)) == 0
                row = lib.llama_get_logits_ith(context.handle, -1)
                found.append(np.frombuffer(ffi.buffer(row, 4 * model.n_vocab), np.float32).copy())
            if warm:
                assert not np.array_equal(*found)
            return found[-1]

    assert np.array_equal(logits(warm=True), logits(warm=False))
