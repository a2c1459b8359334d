"""What a sweep costs beside its own measurements, and against the same matrix through llama-server.

    python benchmarks/sweep_cost.py [--depth N] [--rounds N] [--prompt-cache]

The 2x2 of the miniature with ballast at one depth, timed whole: `llt sweep`, with no prefill kept from before, against
a llama-server of the same build started for each mode and asked once a round, its prompt cache off as in any harness
that times prefills (`--prompt-cache` asks it once more with the cache on).
Wall time also over the sum of the sweep's own prefills and decodes; and the memory of the process that runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import ROOT, machine, show, write_result
from server import completion, llama_server

from llamacpp_tools import home
from llamacpp_tools.build.manifest import find
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.results import document
from llamacpp_tools.results.schema import Document

N_PREDICT, WINDOW, KEPT, N_MAX = 64, 1024, 11, 3
WEIGHTS, KV = 400_000_000, 2048
MODES = {
    "dense": (),
    "swa": ("--dynsparse-swa", str(WINDOW), "--dynsparse-swa-full", str(KEPT)),
    "mtp": ("--spec-type", "draft-mtp", "--spec-draft-n-max", str(N_MAX)),
}
CONFIG = """
name: cost
model: {{miniature: {{ballast_weights: {weights}, ballast_kv: {kv}}}}}
build: {{backend: cpu}}
context: {{n_ubatch: 512, type_k: f16, type_v: f16, threads: auto}}
swa: {{window: {window}, full_layers: [{kept}]}}
draft: {{n_max: {n_max}}}
modes: [dense, swa, mtp, swa+mtp]
depths: [{depth}]
workloads: [maintenance_log]
generate: {{n_predict: {n_predict}}}
rounds: {rounds}
"""


def swept(depth: int, rounds: int, folder: Path) -> tuple[float, int, Document]:
    """Seconds of a whole `llt sweep`, the parent's peak memory in bytes, the result."""
    config, out = folder / "cost.yaml", folder / "cost.json"
    values = {"weights": WEIGHTS, "kv": KV, "window": WINDOW, "kept": KEPT, "n_max": N_MAX}
    config.write_text(CONFIG.format(depth=depth, rounds=rounds, n_predict=N_PREDICT, **values))
    # A home of its own: no prefill is there from an earlier run.
    own = folder / "home"
    own.mkdir()
    for name in ("builds", "models"):
        (own / name).symlink_to(home.llt_home() / name)
    command = [sys.executable, "-m", "llamacpp_tools", "sweep", str(config), "--out", str(out)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"LLT_HOME": str(own)})
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.2)
    wall_s = time.perf_counter() - begun
    assert process.wait() == 0
    return wall_s, peak, document.read(out)


def served(flags: tuple[str, ...], prompt: list[int], rounds: int, cache: bool, threads: int) -> float:
    """Seconds for one mode: start the server, ask once a round, end it."""
    size = ("-c", str(len(prompt) + 512), "-ub", "512", "-b", "2048", "-t", str(threads))
    begun = time.perf_counter()
    with llama_server(find(), miniature(Ballast(WEIGHTS, KV)), *size, *flags) as where:
        for _ in range(rounds):
            assert len(completion(where, prompt, N_PREDICT, cache_prompt=cache)["tokens"]) == N_PREDICT
        return time.perf_counter() - begun


def prompt_of(depth: int) -> list[int]:
    """The prompt's tokens, made in a process of its own: this one loads no library."""
    code = (
        "import json, sys; from pathlib import Path; from llamacpp_tools.build.manifest import find;"
        "from llamacpp_tools.engine.model import Model; from llamacpp_tools.ffi.library import open_library;"
        "from llamacpp_tools.models.miniature import miniature;"
        "from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens;"
        "model = Model(open_library(find()), miniature());"
        "print(json.dumps(prompt_tokens('maintenance_log', int(sys.argv[1]), model.tokenize, MEASURED_SEED)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(depth)], cwd=ROOT, capture_output=True, check=True, text=True
    )
    tokens: list[int] = json.loads(done.stdout.splitlines()[-1])
    return tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depth", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-cache", action="store_true", help="ask a server with its prompt cache, too")
    options = parser.parse_args()
    facts = machine()
    miniature(Ballast(WEIGHTS, KV))
    with tempfile.TemporaryDirectory() as folder:
        wall_s, peak, result = swept(options.depth, options.rounds, Path(folder))
    samples = [sample for cell in result.cells for sample in cell.samples]
    assert all(cell.status == "ok" for cell in result.cells)
    own_ns = sum(s.decode_ns + (s.prefill_ns if s.filled == "prefill" else 0) for s in samples)
    restore_ns = sum(sample.restore_ns for sample in samples)
    threads = result.cells[0].n_threads or 1
    prompt = prompt_of(options.depth)
    modes = {**MODES, "swa+mtp": MODES["swa"] + MODES["mtp"]}
    server_s = {
        cache: sum(served(flags, prompt, options.rounds, cache, threads) for flags in modes.values())
        for cache in ((False, True) if options.prompt_cache else (False,))
    }
    found = {
        "what": "a 2x2 of the miniature with ballast: wall time of llt sweep, and of llama-server cell by cell",
        "n_depth": options.depth,
        "n_predict": N_PREDICT,
        "rounds": options.rounds,
        "ballast": {"weights": WEIGHTS, "kv": KV},
        "llt_wall_s": round(wall_s, 2),
        "llt_measured_s": round(own_ns / 1e9, 2),
        "llt_restore_s": round(restore_ns / 1e9, 2),
        "wall_over_measured": round(wall_s / (own_ns / 1e9), 3),
        "goal_wall_over_measured": 1.15,
        "server_wall_s": round(server_s[False], 2),
        "faster_than_server": round(server_s[False] / wall_s, 2),
        "goal_faster_than_server": 3.0,
        "parent_peak_rss_bytes": peak,
        "machine": facts,
    }
    rows = [
        ("llt sweep", f"{wall_s:.1f} s, {found['wall_over_measured']} of its own prefills and decodes"),
        ("llama-server", f"{server_s[False]:.1f} s, {found['faster_than_server']} times as long"),
        ("memory of llt sweep itself", f"{peak / 2**20:.0f} MiB"),
    ]
    if options.prompt_cache:
        cached = round(server_s[True] / wall_s, 2)
        found |= {"server_with_prompt_cache_wall_s": round(server_s[True], 2), "faster_than_that": cached}
        rows.append(("llama-server, prompt cache", f"{server_s[True]:.1f} s, {cached} times as long"))
    path = write_result("sweep-cost", found)
    show(f"the 2x2 at {options.depth} tokens, {options.rounds} rounds", rows)
    print(f"result: {path}")


if __name__ == "__main__":
    main()
