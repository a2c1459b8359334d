"""One mode in a process of its own: what it generates and the logits it computes, as a .npz file.

A process can hold one libllama, so whatever compares two builds or two recipes runs this once for each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.evaluate import draft_logits, logits_of
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.sampling import Sampling
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.errors import LltError
from llamacpp_tools.ffi.library import open_library


def main() -> int:
    asked = json.load(sys.stdin)
    recipe = Recipe(asked["window"], tuple(asked["full_layers"])) if asked["window"] else None
    context = ContextOptions(
        n_ctx=asked["n_ctx"], n_batch=asked["n_batch"], n_ubatch=asked["n_ubatch"], n_threads=2,
        type_k=asked["type_k"], type_v=asked["type_v"], flash_attn=asked["flash_attn"],
    )  # fmt: skip
    options = SessionOptions(
        context, recipe, asked["n_max"], n_gpu_layers=asked["n_gpu_layers"], ignore_eos=asked["ignore_eos"],
        draft_model=Path(asked["draft_model"]) if asked["draft_model"] else None,
    )  # fmt: skip
    library = open_library(load(Path(asked["manifest"])))
    with Session(library, Path(asked["model"]), options) as session:
        prompt = asked["prompt"] or session.model.tokenize(asked["text"])
        stream = session.generate(
            prompt, asked["n_predict"], Sampling(**asked["sampling"]) if asked["sampling"] else None
        )
        list(stream)
        made = stream.done
        found = {
            "prompt": np.array(prompt),
            "tokens": np.array(made.tokens),
            "drafted": np.array(made.drafted),
            "accepted": np.array(made.accepted),
            "memory_bytes": np.array(session.target.memory_bytes),
            "compute_bytes": np.array(
                sum(each.compute_bytes for each in (session.target, session.draft) if each is not None)
            ),
            "n_rs_seq": np.array(session.target.n_rs_seq),
            "n_ctx": np.array(session.target.n_ctx),
            "text": np.array(session.model.detokenize(list(made.tokens))),
        }
        if session.draft is not None:
            found["draft_bytes"] = np.array(session.draft.memory_bytes)
        if asked["draft_rows"]:
            drafted = draft_logits(session, prompt, asked["n_max"], asked["draft_rows"])
            found |= {"draft_logits": drafted.logits, "draft_tokens": np.array(drafted.tokens)}
        if asked["logits"]:
            with Context(session.model, context) as fresh:
                found["logits"] = logits_of(fresh, [*prompt, *made.tokens])
    np.savez(asked["out"], **found)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LltError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
