"""The engine against upstream's own programs of the same build, side by side: does measuring cost anything?

    python benchmarks/engine_speed.py [--rounds N] [--quick] [--binding PYTHON]

Decode at several depths and prefill against llama-bench; MTP against llama-server; decode against llama-cpp-python, if
PYTHON is an interpreter that has it (its library is the one it was built with, so that case compares two versions). The
two sides take turns, each time in a process of its own, and a ratio is the median of the rounds' ratios, with its 95 %
interval (t on their logarithms). llama-bench decodes random tokens and chooses none; ours chooses each token and makes
a text.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT, machine, show, write_result
from server import completion, llama_server

from llamacpp_tools.build.manifest import find
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import SHA256, miniature
from llamacpp_tools.results import statistics
from llamacpp_tools.threads import auto_threads

N_BATCH, N_UBATCH, N_MAX = 2048, 512, 3
PREFILL, PROMPT, ANSWER = 4096, 512, 256
WARMUP = 16
BALLAST = Ballast(400_000_000, 2048)
Side = Callable[[], float]


def child(asked: dict[str, Any]) -> dict[str, int]:
    """What one process of ours measures: a prefill or a depth, then a generation."""
    from llamacpp_tools.engine import ContextOptions, Session, SessionOptions
    from llamacpp_tools.ffi.library import open_library

    context = ContextOptions(n_ctx=asked["n_ctx"], n_batch=N_BATCH, n_ubatch=N_UBATCH)
    options = SessionOptions(context, n_max=asked["n_max"])
    with Session(open_library(find()), Path(asked["model"]), options) as session:
        session.run(asked["prompt"][:1] * WARMUP, WARMUP)
        if asked["n_predict"] == 1:
            # As llama-bench does before it times a prefill.
            session.fill(asked["prompt"])
        filled = session.fill(asked["prompt"])
        done = session.go_on(filled, asked["n_predict"])
        return {
            "prefill_ns": filled.prefill_ns, "decode_ns": done.decode_ns, "n": done.n_stepped,
            "drafted": sum(done.drafted), "accepted": sum(done.accepted),
        }  # fmt: skip


def ours(model: Path, prompt: list[int], n_predict: int, n_max: int | None = None) -> dict[str, int]:
    """Run `child` in a process."""
    n_ctx = len(prompt) + n_predict + 16
    asked = {"model": str(model), "prompt": prompt, "n_predict": n_predict, "n_max": n_max, "n_ctx": n_ctx}
    done = subprocess.run(
        [sys.executable, __file__, "--child"], input=json.dumps(asked), capture_output=True, text=True,
        check=True, cwd=ROOT,
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout)
    return found


def bench(model: Path, *words: str) -> float:
    """Tokens per second as llama-bench counts them."""
    same = ("-r", "1", "-t", str(auto_threads()), "-b", str(N_BATCH), "-ub", str(N_UBATCH), "-o", "json")
    command = [find().tool("llama-bench"), "-m", model, *same, *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def random_tokens(count: int) -> list[int]:
    """Token ids, the same each time."""
    return random.Random(count).choices(range(300, 1000), k=count)


def decoding(model: Path, depth: int, n_predict: int) -> tuple[Side, Side]:
    """Decode at a depth; at depth 0 ours begins after one token, as a text must."""
    prompt = random_tokens(max(1, depth))

    def mine() -> float:
        found = ours(model, prompt, n_predict + 1)
        return found["n"] / found["decode_ns"] * 1e9

    return mine, lambda: bench(model, "-p", "0", "-n", str(n_predict), "-d", str(depth))


def binding(
    model: Path, prompt: list[int], n_predict: int, python: str, seen: dict[str, Any]
) -> tuple[Side, Side]:
    """The same answer, without MTP, from llama-cpp-python."""
    asked = {
        "model": str(model), "prompt": prompt, "n_predict": n_predict, "n_ctx": len(prompt) + n_predict + 16,
        "n_batch": N_BATCH, "n_ubatch": N_UBATCH, "n_threads": auto_threads(),
    }  # fmt: skip

    def mine() -> float:
        found = ours(model, prompt, n_predict)
        return found["n"] / found["decode_ns"] * 1e9

    def theirs() -> float:
        done = subprocess.run(
            [python, str(Path(__file__).with_name("other_binding.py"))], input=json.dumps(asked),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        seen["llama-cpp-python"] = found["version"]
        return float(found["n"] / found["decode_ns"] * 1e9)

    return mine, theirs


def prefilling(model: Path, count: int) -> tuple[Side, Side]:
    """Prefill from nothing."""
    prompt = random_tokens(count)
    return (
        lambda: count / ours(model, prompt, 1)["prefill_ns"] * 1e9,
        lambda: bench(model, "-p", str(count), "-n", "0"),
    )


def drafting(model: Path, prompt: list[int], seen: dict[str, Any]) -> tuple[Side, Side]:
    """The same answer with MTP."""
    size = (
        "-c",
        str(len(prompt) + ANSWER + 64),
        "-ub",
        str(N_UBATCH),
        "-b",
        str(N_BATCH),
        "-t",
        str(auto_threads()),
    )
    flags = (*size, "--spec-type", "draft-mtp", "--spec-draft-n-max", str(N_MAX))

    def mine() -> float:
        found = ours(model, prompt, ANSWER, N_MAX)
        seen["ours"] = [found["drafted"], found["accepted"]]
        return found["n"] / found["decode_ns"] * 1e9

    def theirs() -> float:
        with llama_server(find(), model, *flags) as where:
            completion(where, prompt[:WARMUP], WARMUP)
            timings = completion(where, prompt, ANSWER)["timings"]
        seen["llama-server"] = [timings["draft_n"], timings["draft_n_accepted"]]
        # Its clock for the answer starts when the first token is there.
        return float((timings["predicted_n"] - 1) / timings["predicted_ms"] * 1e3)

    return mine, theirs


def compared(sides: tuple[Side, Side], rounds: int) -> dict[str, Any]:
    """Both sides in turns, the first of them another one each round."""
    samples: list[tuple[float, float]] = []
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        found = {side: sides[side]() for side in order}
        samples.append((found[0], found[1]))
    mine, theirs = ([pair[side] for pair in samples] for side in (0, 1))
    ratio = statistics.paired(mine, theirs)
    assert ratio is not None
    return {
        "ratio": round(ratio.ratio, 4),
        "interval": [round(value, 4) for value in ratio.interval or ()],
        "ours_tps": [round(value, 2) for value in mine],
        "theirs_tps": [round(value, 2) for value in theirs],
    }


def log_prompt() -> list[int]:
    """A prompt of a kind that the miniature knows, made in a process of its own: this one loads no library."""
    code = (
        "import json; from llamacpp_tools.build.manifest import find;"
        "from llamacpp_tools.engine.model import Model; from llamacpp_tools.ffi.library import open_library;"
        "from llamacpp_tools.models.miniature import miniature;"
        "from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens;"
        "model = Model(open_library(find()), miniature());"
        f"print(json.dumps(prompt_tokens('maintenance_log', {PROMPT}, model.tokenize, MEASURED_SEED)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    tokens: list[int] = json.loads(done.stdout.splitlines()[-1])
    return tokens


def help_s() -> float:
    """Seconds of `llt --help`."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "llamacpp_tools", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="depths up to 1,024 only")
    parser.add_argument("--binding", metavar="PYTHON", help="an interpreter with llama-cpp-python")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(json.load(sys.stdin))))
        return
    facts, small, large = machine(), miniature(), miniature(BALLAST)
    prompt = log_prompt()
    counts: dict[str, dict[str, Any]] = {"miniature": {}, "ballast": {}}
    cases: list[tuple[str, float, int, tuple[Side, Side]]] = [
        *(
            (f"decode, miniature, depth {depth}", 0.98, options.rounds, decoding(small, depth, 256))
            for depth in ((0, 1024) if options.quick else (0, 1024, 4096, 8192))
        ),
        *(
            (f"decode, with ballast, depth {depth}", 0.995, max(5, options.rounds - 2), decoding(large, depth, 48))
            for depth in (0, 1024)
        ),
        (f"prefill of {PREFILL}, miniature", 0.99, options.rounds, prefilling(small, PREFILL)),
        ("prefill of 1024, with ballast", 0.99, max(5, options.rounds - 2), prefilling(large, 1024)),
        ("MTP against llama-server, miniature", 1.0, options.rounds, drafting(small, prompt, counts["miniature"])),
        (
            "MTP against llama-server, with ballast", 1.0, max(5, options.rounds - 2),
            drafting(large, prompt, counts["ballast"]),
        ),
    ]  # fmt: skip
    versions: dict[str, Any] = {}
    if options.binding:
        cases += [
            (
                "decode against llama-cpp-python, miniature", 1.0, options.rounds,
                binding(small, prompt, ANSWER, options.binding, versions),
            ),
            (
                "decode against llama-cpp-python, with ballast", 1.0, max(5, options.rounds - 2),
                binding(large, prompt, 48, options.binding, versions),
            ),
        ]  # fmt: skip
    found = {}
    for name, goal, rounds, sides in cases:
        found[name] = {"goal": goal, **compared(sides, rounds)}
        print(f"{name}: {found[name]['ratio']} {found[name]['interval']}, goal {goal}", flush=True)
    helps = sorted(help_s() for _ in range(9))
    path = write_result(
        "engine-speed",
        {
            "what": "tokens per second of the engine over those of llama-bench or llama-server, paired by round",
            "model_sha256": SHA256,
            "ballast": {"weights": BALLAST.weights, "kv": BALLAST.kv},
            "n_batch": N_BATCH,
            "n_ubatch": N_UBATCH,
            "cases": found,
            "drafted_and_accepted": counts,
            "versions": versions,
            "help_s": [round(value, 3) for value in helps],
            "goal_help_s": 0.3,
            "machine": facts,
        },
    )
    rows = [
        (
            name,
            f"{case['ratio']:.3f} ({case['interval'][0]:.3f} to {case['interval'][1]:.3f}), goal {case['goal']}",
        )
        for name, case in found.items()
    ]
    show("the engine over upstream's programs", [*rows, ("llt --help", f"{helps[4]:.2f} s, goal 0.3")])
    print(f"result: {path}")


if __name__ == "__main__":
    main()
