"""`--spec-draft-auto` for a long answer while short requests come and go beside it.

    python benchmarks/server_beside.py [--rounds N]

A server with two slots writes a long answer in one of them; the other one has a short request, another one soon after,
and so on. So the number of answers that are decoded together changes all the time, and steps hold parts of
prompts. A server does so twice, with two texts: when it has just begun, and again. Each arm (no MTP, a fixed draft
length, the steered one) has a server of its own, one at a time, in an order drawn anew for each round: with all of them
side by side, the requests of one would be the load of another. What counts is the speed of the long answer by the
server's own clock. A ratio is the median of the rounds' ratios with its 95 % interval (t on their logarithms).
Writes `server-beside.json`.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, machine, show, write_result
from server import completion_beside, llama_server
from server_auto import AUTO, OFF, flags, ratio

from llamacpp_tools.build.manifest import find
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import SHA256, miniature
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_text

NAME = "server-beside"
ARMS = (OFF, "1", "3", "5", AUTO)
# So heavy that drafts pay.
BALLAST = Ballast(240_000_000, 0)
LONG, SHORT = 600, 6
PROMPT_CHARS, SHORT_CHARS = 1500, 300
# Of one server. What the first one is slower by is the time to learn.
ANSWERS = ("first", "later")
# From the seed of one answer to the next one's.
LATER = 100
# From the end of a short request to the next one.
GAP_S = 0.15
STEPS = re.compile(r"draft auto = steps by length \((.*?)\)")


def answered(arm: str, seed: int, log: Path) -> list[dict[str, Any]]:
    """The two long answers of one server: the first, of which it begins without any knowledge, and a later one."""
    size = ("-c", "4096", "-ub", "512", "-b", "2048", "-t", str(auto_threads()), "-np", "2")
    with llama_server(find(), miniature(BALLAST), *size, *flags(arm), log=log) as where:
        found = [beside(where, seed + LATER * number) for number in range(len(ANSWERS))]
    told = STEPS.findall(log.read_text(errors="replace"))
    # A long answer has more steps than any of the short ones beside it.
    longest = sorted(told, key=_count)[-len(found) :]
    steps = [each for each in told if each in longest] or [None] * len(found)
    return [{**each, "steps": its} for each, its in zip(found, steps, strict=True)]


def beside(where: str, seed: int) -> dict[str, Any]:
    """A long answer with short requests beside it: its speed, its tokens, how many short ones there were."""
    long = prompt_text("maintenance_log", PROMPT_CHARS, seed)
    text = prompt_text("narrative", 40 * SHORT_CHARS, seed)

    def short(number: int) -> str:
        at = number * SHORT_CHARS % (39 * SHORT_CHARS)
        return text[at : at + SHORT_CHARS]

    found, asked = completion_beside(where, long, LONG, short, SHORT, GAP_S)
    timings = found["timings"]
    tps = (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1e3
    return {"tps": tps, "tokens": found["tokens"], "short_requests": asked}


def _count(steps: str) -> int:
    return sum(int(each.split(": ")[1]) for each in steps.split(", "))


def main() -> None:
    """Measure all rounds and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is 1 at least")
    facts, chance = machine(), random.Random(MEASURED_SEED)
    rounds: list[dict[str, list[dict[str, Any]]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            order = chance.sample(ARMS, len(ARMS))
            rounds.append({arm: answered(arm, MEASURED_SEED + number, Path(folder) / arm) for arm in order})
            print(f"round {number + 1} of {options.rounds}", flush=True)
    answers = {
        name: compared([{arm: each[arm][at] for arm in ARMS} for each in rounds])
        for at, name in enumerate(ANSWERS)
    }
    result = {
        "what": "tokens per second of a long answer beside short requests, by draft length, fixed and steered",
        "model_sha256": SHA256,
        "ballast": {"weights": BALLAST.weights, "kv": BALLAST.kv},
        "answers": answers,
        "auto_chose": [[answer["steps"] for answer in each[AUTO]] for each in rounds],
        "machine": facts,
    }
    path = write_result(NAME, result)
    rows = [
        (f"{name} answer, auto / {arm}", f"{each['ratio']:.3f} {each['interval']}")
        for name, found in answers.items()
        for arm, each in found["auto_over"].items()
    ]
    show(str(path.relative_to(ROOT)), rows)


def compared(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The steered length beside each fixed one, from what each arm's answer of each round was."""
    tps = {arm: [each[arm]["tps"] for each in rounds] for arm in ARMS}
    fixed = [arm for arm in ARMS if arm != AUTO]
    best = max(fixed, key=lambda arm: statistics.geometric_mean(tps[arm]))
    over = {arm: ratio(tps[AUTO], tps[arm]) for arm in fixed}
    return {
        "tps": {arm: [round(value, 2) for value in values] for arm, values in tps.items()},
        "best_fixed": best,
        "auto_over_best_fixed": over[best],
        "auto_over": over,
        "short_requests": {arm: [each[arm]["short_requests"] for each in rounds] for arm in ARMS},
        # Sequences decoded together round otherwise than alone: tokens may part at a near tie.
        "tokens_as_off": {
            arm: [each[arm]["tokens"] == each[OFF]["tokens"] for each in rounds] for arm in ARMS
        },
    }


if __name__ == "__main__":
    main()
