"""Does a window lift the acceptance of the miniature's drafts? Several texts of each kind, so with intervals.

    python benchmarks/miniature_acceptance.py [--texts N]

`llt sweep configs/miniature_acceptance.yaml` measures one text of each kind. Here each kind has several, every one
is continued in every mode, and the interval is that of the mean difference over texts.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import machine, show, write_result
from miniature import library, model_facts, opened, recipe

from llamacpp_tools.workloads import MEASURED_SEED, names, prompt_tokens

DEPTHS = (512, 2048, 8192)
WINDOWS = (None, 128, 1024)
N_MAX, N_PREDICT = 3, 200
RESAMPLES, SEED = 4000, 20260629


def acceptances(lib: Any, depth: int, window: int | None, n_texts: int) -> dict[str, list[tuple[int, int]]]:
    """(accepted, drafted) of each text, by kind."""
    found = {}
    with opened(lib, depth + N_PREDICT + N_MAX + 8, recipe(window), N_MAX) as session:
        for kind in names():
            pairs = []
            for text in range(n_texts):
                made = session.run(
                    prompt_tokens(kind, depth, session.model.tokenize, MEASURED_SEED + text), N_PREDICT
                )
                pairs.append((sum(made.accepted), sum(made.drafted)))
            found[kind] = pairs
    return found


def pooled(pairs: np.ndarray) -> Any:
    """Accepted over drafted, all texts together; the last but one axis is that of the texts."""
    return pairs[..., 0].sum(axis=-1) / pairs[..., 1].sum(axis=-1)


def compare(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> dict[str, Any]:
    """Acceptance with a window less that without, its interval from drawing texts in pairs."""
    a, b = np.array(ours), np.array(theirs)
    drawn = np.random.default_rng(SEED).integers(0, len(a), size=(RESAMPLES, len(a)))
    low, high = np.percentile(pooled(a[drawn]) - pooled(b[drawn]), [2.5, 97.5])
    return {
        "acceptance": round(float(pooled(a)), 4),
        "without_window": round(float(pooled(b)), 4),
        "difference": round(float(pooled(a) - pooled(b)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=10)
    n_texts = parser.parse_args().texts
    lib, facts = library(), machine()
    rows = []
    for depth in DEPTHS:
        found = {
            window: acceptances(lib, depth, window, n_texts)
            for window in WINDOWS
            if window is None or window < depth
        }
        rows += [
            {
                "workload": kind,
                "n_depth": depth,
                "window": window,
                **compare(found[window][kind], found[None][kind]),
            }
            for kind in names()
            for window in found
            if window is not None
        ]
    what = "acceptance of drafts of three with a window (layer 11 kept full) and without, several texts of each kind"
    path = write_result(
        "miniature-acceptance",
        {
            "what": what,
            "n_texts": n_texts,
            "n_predict": N_PREDICT,
            "rows": rows,
            **model_facts(),
            "machine": facts,
        },
    )
    told = [
        (
            f"{row['workload']}, {row['n_depth']} tokens, window {row['window']}",
            f"{row['without_window']:.3f} -> {row['acceptance']:.3f}"
            f" ({row['difference']:+.3f}, {row['interval'][0]:+.3f} to {row['interval'][1]:+.3f})",
        )
        for row in rows
    ]
    show("acceptance without a window and with one", told)
    print(f"result: {path}")


if __name__ == "__main__":
    main()
