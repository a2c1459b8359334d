"""Decodes that a test looks into, in a process of their own: `python -m tests.engine.decodes WHAT MANIFEST MODEL`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.decode import MtpDecoder
from llamacpp_tools.engine.generate import Limits, Run
from llamacpp_tools.engine.model import Model
from llamacpp_tools.engine.rehearsal import made_up
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import Library, open_library

# One thread: what is compared is compared to the bit.
OPTIONS = ContextOptions(n_ctx=256, n_batch=64, n_ubatch=32, n_threads=1, n_rs_seq=3)
PROMPT = list(range(100, 140))


def alternating(library: Library, model: Path) -> dict[str, int]:
    """How many decodes found their graph, by context: of a text whose lengths take turns, decoded a second time."""
    drafts, n_predict = (3, 1, 0), 60
    with Session(library, model, SessionOptions(OPTIONS, n_max=3, ignore_eos=True)) as session:
        assert session.draft is not None
        session.go_on(session.fill(PROMPT), n_predict, drafts=drafts)
        before = _reused(session.target), _reused(session.draft)
        done = session.go_on(session.fill(PROMPT), n_predict, drafts=drafts)
        return {
            "target": _reused(session.target) - before[0],
            "draft": _reused(session.draft) - before[1],
            "steps": len(done.step_drafted),
            "drafted": sum(done.step_drafted),
        }


def _reused(context: Context) -> int:
    return int(context.model.library.lib.llama_perf_context(context.handle).n_reused)


def warm_up(library: Library, model: Path) -> dict[str, list[list[float]]]:
    """Logits of two tokens: in a context that was warmed up with as many, warm and then cold, and in a fresh one."""
    return {"warmed": _logits(library, model, (True, False)), "fresh": _logits(library, model, (False,))}


def _logits(library: Library, path: Path, warm: tuple[bool, ...]) -> list[list[float]]:
    lib, ffi, found = library.lib, library.ffi, []
    with Model(library, path) as model, Context(model, OPTIONS) as context:
        tokens = ffi.new("llama_token[]", [5, 6])
        for warming in warm:
            lib.llama_set_warmup(context.handle, warming)
            context.clear()
            assert lib.llama_decode(context.handle, lib.llama_batch_get_one(tokens, 2)) == 0
            found.append(ffi.unpack(lib.llama_get_logits_ith(context.handle, -1), model.n_vocab))
    return found


def foretold(library: Library, path: Path) -> list[list[int]]:
    """Bytes of graphs' buffers of a target that can roll back, and of the MTP context: counted only, then there."""
    lib, ffi, found = library.lib, library.ffi, []
    memory, compute = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    for no_alloc in (True, False):
        params = lib.llama_model_default_params()
        params.no_alloc, params.use_mmap, params.n_gpu_layers = no_alloc, not no_alloc, 0
        if hasattr(params, "load_mtp"):
            params.load_mtp = True
        model = lib.llama_model_load_from_file(os.fsencode(path), params)
        found.append([])
        for kind, n_rs_seq in ((lib.LLAMA_CONTEXT_TYPE_DEFAULT, 3), (lib.LLAMA_CONTEXT_TYPE_MTP, 0)):
            asked = lib.llama_context_default_params()
            asked.n_ctx, asked.n_ubatch, asked.n_seq_max = 512, 32, 1
            asked.ctx_type, asked.n_rs_seq = kind, n_rs_seq
            context = lib.llama_init_from_model(model, asked)
            lib.llt_context_bytes(context, memory, compute)
            found[-1].append(compute[0])
            lib.llama_free(context)
        lib.llama_model_free(model)
    return found


def given(library: Library, model: Path) -> dict[str, Any]:
    """Steps of texts whose acceptance is made up, by draft length, and what was to be accepted at each token."""
    n_predict = 80
    runs = tuple(made_up(lambda token, _: 0.2 if token < 40 else 0.9, n_predict, 1, limit=3))
    found: dict[str, Any] = {"runs": runs, "n_predict": n_predict, "texts": []}
    for length in (1, 3):
        options = SessionOptions(OPTIONS, n_max=length, ignore_eos=True)
        with Session(library, model, options) as session:
            run = Run(
                session.decoder, session.fill(PROMPT), Limits(n_predict, length, runs=runs), library.ffi
            )
            for _ in run:
                pass
        steps = list(zip(run.done.step_drafted, run.done.step_accepted, strict=True))
        found["texts"].append({"steps": steps, "tokens": len(run.done.tokens)})
    return found


# Steps without a draft, then some with one, and so on.
IDLE, DRAFTED = 100, 4


def waiting(library: Library, model: Path) -> dict[str, Any]:
    """Texts with long turns without a draft: the tokens, and what the MTP block's cache holds of them at the end.

    By batch size and the most tokens that a draft catches up with; None for all.
    """
    context = dataclasses.replace(
        OPTIONS, n_ctx=512, type_k="f32", type_v="f32", flash_attn="off", n_batch=256, n_ubatch=16
    )
    # The text ends with a draft: nothing waits.
    n_predict, drafts = 2 * (IDLE + DRAFTED) + 1, (*[0] * IDLE, *[1] * DRAFTED)
    with Session(library, model, SessionOptions(context, ignore_eos=True)) as session:
        plain = session.run(PROMPT, n_predict)
    found: dict[str, Any] = {"plain": plain.tokens, "ties": plain.ties, "texts": []}
    for n_batch, most in ((256, None), (256, 32), (256, 1), (48, None), (48, 32)):
        options = SessionOptions(dataclasses.replace(context, n_batch=n_batch), n_max=1, ignore_eos=True)
        with Session(library, model, options) as session:
            decoder, draft = session.decoder, session.draft
            assert isinstance(decoder, MtpDecoder) and draft is not None
            if most is not None:
                decoder.catch_up(most)
            # What is forced to be refused leaves each text with as many steps as tokens.
            done = session.go_on(session.fill(PROMPT), n_predict, accepts=(0,), drafts=drafts)
            n_bytes = library.lib.llama_state_seq_get_size(draft.handle, 0)
            found["texts"].append(
                {"tokens": done.tokens, "drafted": sum(done.step_drafted), "bytes": n_bytes}
            )
    return found


if __name__ == "__main__":
    every = {
        "alternating": alternating,
        "warm-up": warm_up,
        "foretold": foretold,
        "given": given,
        "waiting": waiting,
    }
    what: Callable[[Library, Path], Any] = every[sys.argv[1]]
    print(json.dumps(what(open_library(load(Path(sys.argv[2]))), Path(sys.argv[3]))))
