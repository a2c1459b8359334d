"""Drafts of two in a process of its own: logits of the second, in a running loop and after a fresh prefill."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library

N_MAX = 2


def main() -> int:
    asked = json.load(sys.stdin)
    options = SessionOptions(
        ContextOptions(n_ctx=1024, n_batch=256, n_ubatch=128, n_threads=2, type_k="f32", type_v="f32"),
        n_max=N_MAX,
    )
    library = open_library(load(Path(asked["manifest"])))
    with Session(library, Path(asked["model"]), options) as session:
        out = library.ffi.new("llama_token[]", N_MAX + 1)

        def last_draft() -> list[float]:
            pointer = library.lib.llama_get_logits_ith(session.draft.handle, -1)
            return library.ffi.unpack(pointer, session.model.n_vocab)

        tokens = session.model.tokenize(asked["text"])
        tokens.append(session.decoder.prefill(tokens))
        running = []
        accepted_before = 0
        while len(tokens) < asked["n_tokens"]:
            at = len(tokens) - 1
            step = session.decoder.step(tokens[at], at, out, N_MAX)
            # Only here did pairs of the step before ride along with the first draft.
            if accepted_before and step.n_accepted:
                running.append((at, int(out[0]), last_draft()))
            accepted_before = step.n_accepted
            tokens += [int(out[index]) for index in range(step.n_tokens)]
        differences = []
        for at, first, logits in running[: asked["n_cases"]]:
            if session.decoder.prefill(tokens[:at]) != tokens[at]:
                continue
            session.decoder.step(tokens[at], at, out, N_MAX)
            if int(out[0]) == first:
                differences.append(float(np.abs(np.array(logits) - np.array(last_draft())).max()))
    print(json.dumps(differences))
    return 0


if __name__ == "__main__":
    sys.exit(main())
