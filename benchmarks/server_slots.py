"""MTP in llama-server with all of its slots at work: each fixed draft length, and `--spec-draft-auto`.

    python benchmarks/server_slots.py [--rounds N] [--variant NAME ...]

A server with four slots has four requests at once, each for a text of another kind, and again four when these are
done. What counts is the tokens of the four answers by the time of the longest one, by the server's own clock.

At the pin a hybrid model's sequences go through the trunk one after the other as soon as its recurrent state can roll
back, which MTP asks for: a batch of four tokens is four batches then. So MTP takes away what slots are for, whatever
the draft length is. Upstream joins them again from a later version on; `--variant patched-onto-b10068` beside
`patched` measures both (`llt build --cpu --tools --onto b10068` makes that one). Each arm of each build has a
server of its own, one at a time, in an order drawn anew for each round. A ratio is the median of the rounds' ratios
with its 95 % interval (t on their logarithms). Writes `server-slots.json`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, machine, show, write_result
from server import completions, llama_server
from server_auto import AUTO, OFF, flags, ratio
from server_beside import ANSWERS, ARMS, BALLAST, LATER

from llamacpp_tools.build.manifest import Build, find
from llamacpp_tools.models.miniature import SHA256, miniature
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_text

NAME = "server-slots"
KINDS = ("maintenance_log", "narrative", "code", "factual")
N_PREDICT, PROMPT_CHARS = 300, 1000


def answered(build: Build, arm: str, seed: int, log: Path) -> list[dict[str, Any]]:
    """What one server makes of four requests at once, of the first ones and of later ones."""
    slots = len(KINDS)
    size = ("-c", str(2048 * slots), "-ub", "512", "-b", "2048", "-t", str(auto_threads()), "-np", str(slots))
    with llama_server(build, miniature(BALLAST), *size, *flags(arm), log=log) as where:
        return [together(where, seed + LATER * number) for number in range(len(ANSWERS))]


def together(where: str, seed: int) -> dict[str, Any]:
    """A text of each kind at once: tokens per second of all of them, and the tokens."""
    found = completions(where, [prompt_text(kind, PROMPT_CHARS, seed) for kind in KINDS], N_PREDICT)
    timings = [each["timings"] for each in found]
    tps = sum(each["predicted_n"] for each in timings) / max(each["predicted_ms"] for each in timings) * 1e3
    return {"tps": tps, "tokens": [each["tokens"] for each in found]}


def compared(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Each arm beside a server without MTP and the steered one beside the best fixed length, by round."""
    tps = {arm: [each[arm]["tps"] for each in rounds] for arm in ARMS}
    fixed = [arm for arm in ARMS if arm not in (OFF, AUTO)]
    best = max(fixed, key=lambda arm: statistics.geometric_mean(tps[arm]))
    return {
        "tps": {arm: [round(value, 2) for value in values] for arm, values in tps.items()},
        "over_off": {arm: ratio(tps[arm], tps[OFF]) for arm in ARMS if arm != OFF},
        "best_draft": best,
        "auto_over_best_draft": ratio(tps[AUTO], tps[best]),
        # Sequences decoded together round otherwise than alone: tokens may part at a near tie.
        "tokens_as_off": {
            arm: [each[arm]["tokens"] == each[OFF]["tokens"] for each in rounds] for arm in ARMS
        },
    }


def main() -> None:
    """Measure all rounds and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variant", action="append", help="a build by its name (default: patched)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is 1 at least")
    builds = {name: find(variant=name) for name in options.variant or ["patched"]}
    facts, chance = machine(), random.Random(MEASURED_SEED)
    places = [(name, arm) for name in builds for arm in ARMS]
    rounds: list[dict[tuple[str, str], list[dict[str, Any]]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            order = chance.sample(places, len(places))
            log = Path(folder) / "log"
            rounds.append(
                {(name, arm): answered(builds[name], arm, MEASURED_SEED + number, log) for name, arm in order}
            )
            print(f"round {number + 1} of {options.rounds}", flush=True)
    found = {
        name: {
            answer: compared([{arm: each[name, arm][at] for arm in ARMS} for each in rounds])
            for at, answer in enumerate(ANSWERS)
        }
        for name in builds
    }
    result = {
        "what": "tokens per second of four answers at once, by draft length, fixed and steered",
        "model_sha256": SHA256,
        "ballast": {"weights": BALLAST.weights, "kv": BALLAST.kv},
        "kinds": KINDS,
        "builds": {
            name: {"pin": build.manifest.pin, "library_sha256": build.manifest.library_sha256, **found[name]}
            for name, build in builds.items()
        },
        "machine": facts,
    }
    path = write_result(NAME, result)
    rows = [
        (f"{name}, {answer} answers, {arm} / off", f"{each['ratio']:.3f} {each['interval']}")
        for name, answers in found.items()
        for answer, parts in answers.items()
        for arm, each in parts["over_off"].items()
    ]
    show(str(path.relative_to(ROOT)), rows)


if __name__ == "__main__":
    main()
