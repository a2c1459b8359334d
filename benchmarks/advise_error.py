"""How far `llt advise` is off for draft lengths that it has not seen: foretold, then measured.

    python benchmarks/advise_error.py [--rounds N] [--depth N]

The miniature with ballast, three kinds of text, dense and with a window. One sweep drafts 4 tokens; its survival, and
the costs of `llt advise --measure`, foretell the gain of 1 to 8. Then a second sweep measures 1, 2, 3, 6 and 8. Each
sweep holds its own plain cells, so a ratio is told against what ran beside it. 6 and 8 are longer than any draft whose
survival was measured, and are judged apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, machine, show, write_result

from llamacpp_tools.sweep.journal import journal_path

KNOWN, UNSEEN = 4, (1, 2, 3, 6, 8)
RESULTS = ROOT / "results" / "miniature"
CONFIG = """
name: {name}
model: {{miniature: {{ballast_weights: 200MB, ballast_kv: 1024}}}}
build: {{backend: cpu}}
context: {{n_ubatch: 512, threads: auto}}
swa: {{window: 1024, full_layers: [11]}}
draft: {{n_max: {n_max}}}
modes: [dense, swa, mtp, swa+mtp]
depths: [{depth}]
workloads: [maintenance_log, code, analysis]
generate: {{n_predict: 128}}
rounds: {rounds}
"""


def llt(*words: str | Path) -> dict[str, Any]:
    """Run a verb with --json; its document."""
    command = [sys.executable, "-m", "llamacpp_tools", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def swept(name: str, n_max: object, asked: argparse.Namespace) -> Path:
    """A sweep's result, gone on with where it was cut off."""
    config, out = RESULTS / f"{name}.yaml", RESULTS / f"{name}.json"
    config.write_text(
        CONFIG.format(name=name.replace("_", "-"), n_max=n_max, depth=asked.depth, rounds=asked.rounds)
    )
    begun = journal_path(out).exists()
    if not begun:
        out.unlink(missing_ok=True)
    try:
        llt("sweep", config, "--out", out, *(["--resume"] if begun else []))
    finally:
        config.unlink()
    return out


def errors(known: Path, unseen: Path) -> list[dict[str, Any]]:
    """Foretold over measured, minus one, for each text, recipe and length."""
    foretold = {
        (setting["workload"], option["recipe"]["window"], option["n_max"]): option
        for setting in llt("advise", known)["settings"]
        for option in setting["options"]
    }
    rows = []
    for setting in llt("advise", unseen)["settings"]:
        for check in setting["measured"]:
            key = (setting["workload"], check["recipe"]["window"], check["n_max"])
            said, true = foretold[key]["own"], check["measured"]
            low, high = said["interval"]
            rows.append(
                {
                    "workload": key[0],
                    "window": key[1],
                    "n_max": key[2],
                    "foretold": round(said["value"], 4),
                    "foretold_interval": [round(low, 4), round(high, 4)],
                    "measured": round(true["value"], 4),
                    "measured_interval": [round(bound, 4) for bound in true["interval"]],
                    "error": round(said["value"] / true["value"] - 1, 4),
                    "overlap": low <= true["interval"][1] and true["interval"][0] <= high,
                    "extrapolated": foretold[key]["extrapolated"],
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=int, default=2048)
    asked = parser.parse_args()
    facts = machine()
    known = swept("advise_known", KNOWN, asked)
    llt("advise", known, "--measure", "--longest", str(max(UNSEEN)))
    unseen = swept("advise_unseen", list(UNSEEN), asked)
    rows = errors(known, unseen)
    summary = {}
    for name, chosen in (
        ("within what was measured", [row for row in rows if not row["extrapolated"]]),
        ("longer than any draft measured", [row for row in rows if row["extrapolated"]]),
    ):
        off = np.abs([row["error"] for row in chosen])
        summary[name] = {
            "cells": len(chosen),
            "median_abs_error": round(float(np.median(off)), 4),
            "largest_abs_error": round(float(off.max()), 4),
            "intervals_that_meet": sum(row["overlap"] for row in chosen),
        }
    path = write_result(
        "advise-error",
        {
            "what": "gain of draft lengths that were not run: foretold by llt advise over measured, minus 1",
            "foretold_from": f"drafts of {KNOWN} and the cost of each length at forced acceptance",
            "depth": asked.depth,
            "rounds": asked.rounds,
            "summary": summary,
            "rows": rows,
            "machine": facts,
        },
    )
    show(
        "llt advise, foretold against measured",
        [
            (
                name,
                f"{each['cells']} cells, error {each['median_abs_error']:.1%} in the median, "
                f"{each['largest_abs_error']:.1%} at most; intervals meet in {each['intervals_that_meet']}",
            )
            for name, each in summary.items()
        ],
    )
    print(f"result: {path}")


if __name__ == "__main__":
    main()
