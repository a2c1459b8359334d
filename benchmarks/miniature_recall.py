"""How many long-range facts the miniature answers: dense, windowed with one layer kept full, all windowed.

    python benchmarks/miniature_recall.py [--cases N]

Facts stand at the beginning of a text, the question at its end; the answer is generated greedily and must begin
with the right place.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from typing import Any

from common import machine, show, write_result
from miniature import library, model_facts, opened, recipe

from llamacpp_tools.workloads import MEASURED_SEED
from llamacpp_tools.workloads.recall import Case, cases, recall_tokens

DEPTHS = (256, 512, 1024, 2048, 4096, 8192)
FILLER = "narrative"
N_FACTS = (1, 6)
WINDOW = 128
MODES = {
    "dense": recipe(None),
    "one layer full": recipe(WINDOW),
    "all windowed": recipe(WINDOW, keep=False),
}
ANSWER_TOKENS = 12


def wilson(right: int, asked: int) -> list[float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    z, share = 1.96, right / asked
    centre = share + z * z / (2 * asked)
    half = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return [round((centre + sign * half) / (1 + z * z / asked), 4) for sign in (-1, 1)]


def share(lib: Any, mode: str, depth: int, filler: str, asked: list[Case]) -> dict[str, Any]:
    """The share of `asked` that is answered at one depth with a kind of text between."""
    right = 0
    with opened(lib, depth + ANSWER_TOKENS + 4, MODES[mode]) as session:
        for index, case in enumerate(asked):
            prompt = recall_tokens(case, filler, depth, session.model.tokenize, MEASURED_SEED + index)
            made = session.run(prompt, ANSWER_TOKENS)
            right += case.asked.answered(session.model.detokenize(list(made.tokens)))
    found = {"right": right, "asked": len(asked), "share": round(right / len(asked), 4)}
    return {"mode": mode, "n_depth": depth, "filler": filler, **found, "interval": wilson(right, len(asked))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=40)
    count = parser.parse_args().cases
    lib, facts = library(), machine()
    rows = []
    for n_facts in N_FACTS:
        asked = list(itertools.islice(cases(MEASURED_SEED, n_facts), count))
        for depth in DEPTHS:
            rows += [{"n_facts": n_facts, **share(lib, mode, depth, FILLER, asked)} for mode in MODES]
            print(f"{n_facts} facts, {depth} tokens: {[row['share'] for row in rows[-3:]]}", file=sys.stderr)
    what = "share of long-range facts answered; one or six named at the beginning, one of them asked for at the end"
    path = write_result(
        "miniature-recall", {"what": what, "window": WINDOW, "rows": rows, **model_facts(), "machine": facts}
    )
    show(
        "long-range facts answered",
        [
            (f"{row['n_facts']} facts, {row['n_depth']} tokens, {row['mode']}", f"{row['share']:.2f}")
            for row in rows
        ],
    )
    print(f"result: {path}")


if __name__ == "__main__":
    main()
