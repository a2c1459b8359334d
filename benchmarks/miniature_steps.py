"""What one step of the MTP block costs against one step of the trunk, on the miniature with and without ballast.

    python benchmarks/miniature_steps.py

A draft of one token after the other: its time, what the block catches up with included, over the tokens drafted. The
trunk's step is that of plain decode of the same text, in turns with it.
"""

from __future__ import annotations

import statistics
from typing import Any

from common import machine, show, write_result
from miniature import library, model_facts

from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

BALLASTS = {"none": None, "400 MB, 2048 elements": Ballast(400_000_000, 2048)}
DEPTHS = (512, 4096)
N_MAX, N_PREDICT, ROUNDS, KIND = 3, 96, 3, "analysis"


def measured(lib: Any, name: str, depth: int) -> dict[str, Any]:
    """Medians over rounds, in milliseconds, at one depth."""
    options = ContextOptions(n_ctx=depth + N_PREDICT + 16, n_ubatch=512, n_threads=auto_threads())
    path = miniature(BALLASTS[name])
    trunk, draft = [], []
    with (
        Session(lib, path, SessionOptions(options)) as plain,
        Session(lib, path, SessionOptions(options, n_max=N_MAX)) as mtp,
    ):
        prompt = prompt_tokens(KIND, depth, plain.model.tokenize, MEASURED_SEED)
        for _ in range(ROUNDS):
            one = plain.run(prompt, N_PREDICT)
            trunk.append(one.decode_ns / len(one.step_ns) / 1e6)
            other = mtp.run(prompt, N_PREDICT)
            draft.append(sum(other.step_draft_ns) / sum(other.drafted) / 1e6)
    step, draft_step = statistics.median(trunk), statistics.median(draft)
    return {
        "ballast": name,
        "n_depth": depth,
        "trunk_step_ms": round(step, 4),
        "draft_step_ms": round(draft_step, 4),
        "ratio": round(draft_step / step, 4),
    }


def main() -> None:
    facts, lib = machine(), library()
    rows = [measured(lib, name, depth) for name in BALLASTS for depth in DEPTHS]
    what = (
        "time of one drafted token against one token of plain decode, medians of three rounds taken in turns"
    )
    path = write_result(
        "miniature-steps", {"what": what, "goal_ratio": 0.3, "rows": rows, **model_facts(), "machine": facts}
    )
    told = [
        (
            f"ballast {row['ballast']}, {row['n_depth']} tokens",
            f"{row['draft_step_ms']} of {row['trunk_step_ms']} ms, {row['ratio']:.2f}",
        )
        for row in rows
    ]
    show("one drafted token against one of plain decode", told)
    print(f"result: {path}")


if __name__ == "__main__":
    main()
