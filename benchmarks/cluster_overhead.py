"""What a cluster costs: a sweep over one box through a scheduler against the same sweep without, in turns.

    python benchmarks/cluster_overhead.py [--pairs N] [--depth N] [--add]

Scheduler, worker and sweep are processes of this machine, on loopback; the worker joins before the time begins, as it
does in a lab. Timed is the whole `llt sweep`, each with a home of its own so that no prefill is kept from before. Also
how much processor time the sweep's process and the scheduler took meanwhile, which says how many boxes they can serve.
And what of the time was not the model's (no prefill, no decode, nothing else of a round): the machine's pace, which may
change from one sweep to the next, moves that far less than the whole.
Writes results/benchmarks/cluster-overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from common import ROOT, machine, show, write_result

from llamacpp_tools import home
from llamacpp_tools.results import document
from llamacpp_tools.results.schema import Document
from llamacpp_tools.results.statistics import paired

GOAL = 1.03
CONFIG = """
name: overhead
model: {{miniature: {{ballast_weights: 200MB, ballast_kv: 1024}}}}
context: {{n_ubatch: 512, threads: 1}}
swa: {{window: 512, full_layers: [11]}}
draft: {{n_max: 3}}
modes: [dense, swa, mtp, swa+mtp]
depths: [{depth}]
workloads: [maintenance_log, code]
generate: {{n_predict: 64}}
rounds: 3
"""
LLT = [sys.executable, "-m", "llamacpp_tools"]


def own_home(folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True)
    for name in ("builds", "models"):
        (folder / name).symlink_to(home.llt_home() / name)
    return os.environ | {"LLT_HOME": str(folder)}


def stays(log: Path, words: list[str], env: dict[str, str], said: str) -> subprocess.Popen[bytes]:
    """Start llt and wait until it has said something."""
    with log.open("w") as file:
        process = subprocess.Popen([*LLT, *words], cwd=ROOT, env=env, stderr=file, start_new_session=True)
    while said not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    return process


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def timed(config: Path, out: Path, env: dict[str, str], *words: str) -> tuple[float, float]:
    """Seconds of a whole sweep, and the processor time of its own process."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*LLT, "sweep", str(config), "--out", str(out), *words],
        cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    used = 0.0
    while process.poll() is None:
        try:
            used = cpu_s(process.pid)
        except psutil.Error:
            break
        time.sleep(0.05)
    wall_s = time.perf_counter() - begun
    assert process.wait() == 0, process.stderr.read().decode() if process.stderr else ""
    return wall_s, used


def model_s(result: Document) -> float:
    """Seconds in which the model was at work, in all rounds of a sweep."""
    rounds = [sample for cell in result.cells for sample in cell.samples]
    # A prefill that was restored tells the time that it once took as well.
    filled = sum(each.restore_ns if each.filled == "restored" else each.prefill_ns for each in rounds)
    return (filled + sum(each.other_ns + each.decode_ns for each in rounds)) / 1e9


def pair(number: int, config: Path, folder: Path) -> dict[str, Any]:
    """One local sweep and one through a cluster, the one or the other first in turn."""
    where: dict[str, Any] = {}
    for name in ("alone", "over") if number % 2 == 0 else ("over", "alone"):
        out = folder / f"{name}-{number}.json"
        env = own_home(folder / f"home-{name}-{number}")
        if name == "alone":
            wall_s, used = timed(config, out, env)
            where[name] = {"wall_s": wall_s, "cpu_s": used}
            continue
        boss = stays(folder / "boss.log", ["cluster", "scheduler", "--port", "0"], env, "listens at")
        address = (folder / "boss.log").read_text().split("listens at ")[1].split(";")[0]
        box = stays(folder / "box.log", ["worker", address, "--name", "one"], env, "has joined")
        before = {"scheduler": cpu_s(boss.pid), "worker": cpu_s(box.pid)}
        wall_s, used = timed(config, out, env, "--cluster", address)
        after = {"scheduler": cpu_s(boss.pid), "worker": cpu_s(box.pid)}
        where[name] = {"wall_s": wall_s, "cpu_s": used} | {
            f"{who}_cpu_s": round(after[who] - before[who], 2) for who in before
        }
        for process in (box, boss):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    results = {name: document.read(folder / f"{name}-{number}.json") for name in where}
    tokens = [[cell.output_tokens for cell in result.cells] for result in results.values()]
    assert tokens[0] == tokens[1]
    for name, result in results.items():
        where[name]["beside_the_model_s"] = where[name]["wall_s"] - model_s(result)
    print(f"pair {number + 1}: {where['alone']['wall_s']:.1f} s, {where['over']['wall_s']:.1f} s", flush=True)
    return where


def written(pairs: list[dict[str, Any]]) -> Path:
    """Show and write what the pairs so far say."""
    found = paired([each["over"]["wall_s"] for each in pairs], [each["alone"]["wall_s"] for each in pairs])
    assert found is not None
    box_s = sum(each["over"]["wall_s"] for each in pairs)
    # What one box asks of the two processes that all boxes share, beyond what a sweep costs anyhow.
    extra = sum(each["over"]["cpu_s"] - each["alone"]["cpu_s"] for each in pairs) / box_s
    scheduler = sum(each["over"]["scheduler_cpu_s"] for each in pairs) / box_s
    worker = sum(each["over"]["worker_cpu_s"] for each in pairs) / box_s
    low, high = found.interval or (found.ratio, found.ratio)
    # As a share of a local run's mean time; the first pairs of an older file do not tell it.
    beside = [
        [each[name]["beside_the_model_s"] for name in ("alone", "over")]
        for each in pairs
        if "beside_the_model_s" in each["alone"]
    ]
    more = [over - alone for alone, over in beside]
    alone_s = statistics.fmean(each["alone"]["wall_s"] for each in pairs)
    show(
        "a sweep through a one-box cluster over the local run",
        [
            ("wall time", f"{found.ratio:.3f} ({low:.3f} to {high:.3f})"),
            *([("time beside the model's", _words(more, alone_s))] if more else []),
            ("processor time of the sweep for a box", f"{extra:.2%} of a core, beyond the local run's"),
            ("of the scheduler", f"{scheduler:.2%} of a core"),
            ("of the worker", f"{worker:.2%} of a core"),
        ],
    )
    return write_result(
        "cluster-overhead",
        {
            "machine": machine(),
            "goal": {"ratio": GOAL, "met": found.ratio <= GOAL},
            "ratio": round(found.ratio, 4),
            "interval": [round(value, 4) for value in found.interval] if found.interval else None,
            "more_beside_the_model_s": [round(each, 3) for each in more],
            "mean_alone_s": round(alone_s, 3),
            "cpu_of_a_core": {
                "sweep_beyond_local": round(extra, 5), "scheduler": round(scheduler, 5), "worker": round(worker, 5),
            },
            "pairs": pairs,
        },
    )  # fmt: skip


def _words(more: list[float], alone_s: float) -> str:
    share = [each / alone_s for each in more]
    between = f"{min(share):+.2%} to {max(share):+.2%} in {len(share)} pairs"
    return f"{statistics.fmean(share):+.2%} of the local run ({between})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=6)
    options.add_argument("--depth", type=int, default=2048)
    options.add_argument("--add", action="store_true", help="keep the pairs of the file")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = folder / "overhead.yaml"
        config.write_text(CONFIG.format(depth=asked.depth))
        path = ROOT / "results" / "benchmarks" / "cluster-overhead.json"
        pairs: list[dict[str, Any]] = json.loads(path.read_text())["pairs"] if asked.add else []
        for number in range(len(pairs), len(pairs) + asked.pairs):
            pairs.append(pair(number, config, folder))
            path = written(pairs)
    print(path)


if __name__ == "__main__":
    main()
