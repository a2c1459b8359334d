"""What MTP costs while it drafts nothing: a plain step, and one in contexts made for drafts of 1 and of 8.

The patch `conv-snapshots` is there for both: without it each step copies the conv state of every layer once for each
token of the longest draft, and the DeltaNet state once more than a plain step does. Two builds, with the patch and
without (`llt build --cpu --without conv-snapshots`), in turns, each in a process of its own; sessions in turns within
it; medians of single steps. Writes `mtp-idle.json`.

    python benchmarks/mtp_idle.py
"""

from __future__ import annotations

import json
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
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

BUILDS = {"with conv-snapshots": "patched", "without": "patched-without-conv-snapshots"}
MODELS = {"miniature": None, "with 120 MB of ballast": Ballast(120_000_000, 0)}
N_MAX = {"plain decode": None, "made for drafts of 1": 1, "made for drafts of 8": 8}
# Many processes, as each keeps the speed that its memory layout gave it.
DEPTH, N_PREDICT, ROUNDS, TURNS = 512, 96, 6, 8


def main() -> None:
    """Ask each build in turns and write the medians."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {
        name: {model: {} for model in MODELS} for name in BUILDS
    }
    for variant in BUILDS.values():
        manifest.find("cpu", variant)
    for _ in range(TURNS):
        for name, variant in BUILDS.items():
            for model in MODELS:
                for arm, steps in _child(variant, model).items():
                    found[name][model].setdefault(arm, []).extend(steps)
    rows: list[dict[str, Any]] = []
    for name, models in found.items():
        for model, arms in models.items():
            medians = {arm: statistics.median(steps) for arm, steps in arms.items()}
            over = {arm: round(ms / medians["plain decode"], 4) for arm, ms in medians.items()}
            rows.append({"build": name, "model": model, "step_ms": medians, "over_plain": over})
    path = write_result("mtp-idle", {"what": __doc__, "rows": rows, "machine": machine()})
    told = [
        (
            f"{row['build']}, {row['model']}",
            ", ".join(f"{arm} {ratio:.3f}" for arm, ratio in row["over_plain"].items()),
        )
        for row in rows
    ]
    show(f"{path.relative_to(ROOT)}: a step that drafts nothing over one of plain decode", told)


def _child(variant: str, model: str) -> dict[str, list[float]]:
    done = subprocess.run([sys.executable, __file__, variant, model], check=True, stdout=subprocess.PIPE)
    arms: dict[str, list[float]] = json.loads(done.stdout)
    return arms


def measure(variant: str, model: str) -> dict[str, list[float]]:
    """Milliseconds of each step by arm, the sessions in turns."""
    library = open_library(manifest.find("cpu", variant))
    options = ContextOptions(n_ctx=DEPTH + N_PREDICT + 16, n_ubatch=512, n_threads=auto_threads())
    path = miniature(MODELS[model])
    sessions: dict[str, Session] = {
        arm: Session(library, path, SessionOptions(options, n_max=n_max)) for arm, n_max in N_MAX.items()
    }
    prompt = prompt_tokens("analysis", DEPTH, sessions["plain decode"].model.tokenize, MEASURED_SEED)
    steps: dict[str, list[float]] = {arm: [] for arm in sessions}
    for _ in range(ROUNDS):
        for arm, session in sessions.items():
            drafts: dict[str, Any] = {} if session.options.n_max is None else {"drafts": (0,)}
            done = session.go_on(session.fill(prompt), N_PREDICT, **drafts)
            steps[arm] += [ns / 1e6 for ns in done.step_ns[2:]]
    for session in sessions.values():
        session.close()
    return steps


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
