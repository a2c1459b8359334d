"""How long `llt rebase --check` of our series takes on a source that is there. Goal: under 2 s.

    python benchmarks/stack_check.py [--rounds N]

Each round is a process of its own, as a user or a CI job starts it. The first, not counted, fetches upstream.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import psutil
from common import ROOT, machine, show, write_result

GOAL_S = 2.0


def check() -> tuple[float, dict[str, Any]]:
    """Seconds of one `llt rebase --check`, and what it printed."""
    command = [sys.executable, "-m", "llamacpp_tools", "rebase", "--check", "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"rebase --check failed: {done.stderr.strip()}")
    return seconds, json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    facts = machine()
    _, told = check()
    seconds = [check()[0] for _ in range(rounds)]
    facts["load_average_after"] = round(psutil.getloadavg()[0], 2)
    median = statistics.median(seconds)
    result = {
        "what": "llt rebase --check of the series at the pin, source ready, a new process each round",
        "upstream": told["upstream"],
        "patches": len(told["patches"]),
        "series_digest": told["series_digest"],
        "samples_s": [round(value, 4) for value in seconds],
        "median_s": round(median, 4),
        "max_s": round(max(seconds), 4),
        "goal_s": GOAL_S,
        "goal_met": max(seconds) < GOAL_S,
        "machine": facts,
    }
    path = write_result("stack-check", result)
    rows = [
        ("patches", str(len(told["patches"]))),
        ("median", f"{median:.2f} s of {rounds} rounds"),
        ("slowest", f"{max(seconds):.2f} s"),
        ("goal", f"under {GOAL_S:g} s: {'met' if result['goal_met'] else 'missed'}"),
    ]
    show("llt rebase --check", rows)
    print(f"result: {path.relative_to(ROOT)}")
    sys.exit(0 if result["goal_met"] else 1)


if __name__ == "__main__":
    main()
