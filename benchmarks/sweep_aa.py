"""How often is one mode under two names called different? Twenty sweeps of the same thing against itself.

    python benchmarks/sweep_aa.py [--sweeps N] [--rounds N] [--workers kept]

Two windows that are both longer than the context do exactly the same work, and are two cells of one comparison that
take turns as any other two. Whatever is called a difference there is none. For each sweep the verdict of `llt` stands
beside what a percentile bootstrap of the same rounds would have said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, machine, show, write_result
from scipy import stats

from llamacpp_tools.results import document
from llamacpp_tools.results.compare import by_round
from llamacpp_tools.results.statistics import LEVEL, RESAMPLES, SEED, paired

CONFIG = """
name: aa
model: miniature
build: {{backend: cpu}}
context: {{n_ubatch: 128, threads: auto}}
swa: {{window: [30000, 30001], full_layers: [11]}}
modes: [swa]
depths: [1024]
workloads: [maintenance_log, analysis]
generate: {{n_predict: 128}}
rounds: {rounds}
prefills: {rounds}
workers: {workers}
"""


def bootstrap_differs(a: list[float], b: list[float]) -> bool:
    """What a percentile bootstrap of the median ratio, paired by round, would have said."""
    ratios = np.array(a) / np.array(b)
    drawn = np.random.default_rng(SEED).integers(0, len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return bool(low > 1 or high < 1)


def verdicts(path: Path) -> list[dict[str, Any]]:
    """For each pair of equal cells and each speed: the ratio, its interval, what is said of it."""
    found = []
    cells = document.read(path).cells
    assert all(cell.status == "ok" for cell in cells), [cell.reason for cell in cells]
    for one in cells:
        for other in cells:
            if one.workload != other.workload or (one.window or 0) >= (other.window or 0):
                continue
            for metric in ("decode_tps", "prefill_tps"):
                a, b = (list(by_round(cell, metric).values()) for cell in (one, other))
                said = paired(a, b)
                assert said is not None and said.interval is not None
                found.append(
                    {
                        "workload": one.workload,
                        "metric": metric,
                        "ratio": round(said.ratio, 5),
                        "interval": [round(bound, 5) for bound in said.interval],
                        "called_different": bool(said.differs),
                        "bootstrap_called_different": bootstrap_differs(a, b),
                    }
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", choices=("fresh", "kept"), default="fresh")
    asked = parser.parse_args()
    facts = machine()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "aa.yaml"
        config.write_text(CONFIG.format(rounds=asked.rounds, workers=asked.workers))
        for number in range(asked.sweeps):
            out = Path(folder) / f"{number}.json"
            command = [
                sys.executable,
                "-m",
                "llamacpp_tools",
                "sweep",
                str(config),
                "--out",
                str(out),
                "--json",
            ]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            rows += [{"sweep": number, **row} for row in verdicts(out)]
            print(json.dumps(rows[-1]), file=sys.stderr)
    called = sum(row["called_different"] for row in rows)
    bootstrap = sum(row["bootstrap_called_different"] for row in rows)
    # More would be seen by chance in one of a hundred such benchmarks if the rate is as stated.
    allowed = int(stats.binom.ppf(0.99, len(rows), 1 - LEVEL))
    result = {
        "what": "one mode under two names: how many of the comparisons were called different",
        "workers": asked.workers,
        "sweeps": asked.sweeps,
        "rounds": asked.rounds,
        "comparisons": len(rows),
        "called_different": called,
        "stated_error_rate": round(1 - LEVEL, 4),
        "allowed_at_99_percent": allowed,
        "bootstrap_called_different": bootstrap,
        "rows": rows,
        "machine": facts,
    }
    path = write_result("sweep-aa" if asked.workers == "fresh" else "sweep-aa-kept", result)
    show(
        f"{asked.sweeps} sweeps of one mode against itself, {asked.rounds} rounds each",
        [
            ("comparisons", str(len(rows))),
            (
                "called different",
                f"{called} ({called / len(rows):.1%}; stated 5 %, up to {allowed} by chance)",
            ),
            ("a percentile bootstrap would have called", f"{bootstrap} ({bootstrap / len(rows):.1%})"),
        ],
    )
    print(f"result: {path}")
    sys.exit(0 if called <= allowed else 1)


if __name__ == "__main__":
    main()
