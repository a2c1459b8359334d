"""What it is worth that a context keeps a graph for each small batch: steps with drafts, with the patch and without.

The patch `small-graphs` is there for it: without it the MTP context builds two graphs anew in each step, and the target
one whenever the draft length changes. Two builds, with the patch and without (`llt build --cpu --without
small-graphs`), in turns, each in a process of its own, whose times together are one value; drafts of one length, and
lengths that alternate from step to step, which no controller does and which shows what a change takes. Writes
`small-graphs.json`.

    python benchmarks/small_graphs.py [--turns 6]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import subprocess
import sys
from typing import Any

from common import ROOT, machine, show, write_result

from llamacpp_tools.build import manifest
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.results.statistics import paired
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

BUILDS = {"with": "patched", "without": "patched-without-small-graphs"}
MODELS = {"miniature": None, "with 120 MB of ballast": Ballast(120_000_000, 0)}
DRAFTS = {
    "nothing drafted": (0,),
    "drafts of 1": (1,),
    "drafts of 3": (3,),
    "drafts of 8": (8,),
    "0 and 3 in turns": (0, 3),
    "1, 3, 2, 4 in turns": (1, 3, 2, 4),
}
DEPTH, N_PREDICT, ROUNDS = 512, 128, 4


def main() -> None:
    """Ask each build in turns and write how the times compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(*asked.child)))
        return
    for variant in BUILDS.values():
        manifest.find("cpu", variant)
    rows: list[dict[str, Any]] = []
    for model in MODELS:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in BUILDS}
        for _ in range(asked.turns):
            for name, variant in BUILDS.items():
                found[name].append(_child(variant, model))
        rows += [_row(model, drafts, found) for drafts in DRAFTS]
    path = write_result("small-graphs", {"what": __doc__, "rows": rows, "machine": machine()})
    show(
        f"{path.relative_to(ROOT)}: a step with the patch over one without",
        [(f"{row['model']}, {row['drafts']}", _words(row)) for row in rows],
    )


def _row(model: str, drafts: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    ms = {name: [part["step_ms"][drafts] for part in parts] for name, parts in found.items()}
    ratio = paired(ms["with"], ms["without"])
    assert ratio is not None
    tokens = {json.dumps(part["tokens"][drafts]) for parts in found.values() for part in parts}
    return {
        "model": model,
        "drafts": drafts,
        "ratio": round(ratio.ratio, 4),
        "interval": ratio.interval,
        "step_ms": {name: round(statistics.median(values), 4) for name, values in ms.items()},
        "compute_bytes": {name: parts[0]["compute_bytes"] for name, parts in found.items()},
        "same_tokens": len(tokens) == 1,
    }


def _words(row: dict[str, Any]) -> str:
    low, high = row["interval"] or (math.nan, math.nan)
    return f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})" + ("" if row["same_tokens"] else ", other tokens")


def _child(variant: str, model: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", variant, model]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def measure(variant: str, model: str) -> dict[str, Any]:
    """Mean milliseconds of a step, the lengths in turns; what was generated; bytes of both contexts' graph buffers."""
    library = open_library(manifest.find("cpu", variant))
    n_ctx = DEPTH + N_PREDICT + 16
    options = ContextOptions(n_ctx=n_ctx, n_ubatch=512, n_threads=auto_threads(), flash_attn="off")
    with Session(
        library, miniature(MODELS[model]), SessionOptions(options, n_max=8, ignore_eos=True)
    ) as session:
        prompt = prompt_tokens("analysis", DEPTH, session.model.tokenize, MEASURED_SEED)
        steps: dict[str, list[float]] = {name: [] for name in DRAFTS}
        tokens: dict[str, list[int]] = {}
        gc.disable()
        for each in range(ROUNDS):
            for name, drafts in DRAFTS.items():
                done = session.go_on(session.fill(prompt), N_PREDICT, drafts=drafts)
                tokens[name] = list(done.tokens)
                # The first round finds nothing in the caches; the first steps pay for what the prompt left there.
                if each:
                    steps[name].append(statistics.fmean(done.step_ns[2:]) / 1e6)
        assert session.draft is not None
        return {
            "step_ms": {name: statistics.median(times) for name, times in steps.items()},
            "tokens": tokens,
            "compute_bytes": session.target.compute_bytes + session.draft.compute_bytes,
        }


if __name__ == "__main__":
    main()
