"""`--spec-draft-auto` in llama-server against plain decode and every fixed draft length, through HTTP.

    python benchmarks/server_auto.py [--rounds N] [--only miniature|ballast] [--quick]

The arms take turns within a round, forward and backward, each in a server of its own that answers every text. A
ratio is the median of the rounds' ratios with its 95 % interval (t on their logarithms). Tokens per second are the
server's own timings of the answer. Every arm must give plain decode's tokens, or the text's row says where not.

A text that switches class midway is forced: a grammar that allows this one text makes the model write a log that goes
on as a story (or the other way round); what is drafted is compared with that text, and every arm pays for the grammar.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics as plain_statistics
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import machine, show, write_result
from server import completion, llama_server

from llamacpp_tools.build.manifest import find
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import SHA256, miniature
from llamacpp_tools.results import statistics
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_text
from llamacpp_tools.workloads.registry import context_text

LIMIT = 5
FIXED = (1, 2, 3, 5)
AUTO, OFF = "auto", "off"
ARMS = (OFF, *(str(length) for length in FIXED), AUTO)
BALLAST = Ballast(400_000_000, 2048)
PROMPT_CHARS = 1500
# About so many characters make a token of the miniature's.
PER_TOKEN = 2.8
# A forced answer is so much longer than a free one, so that both of its halves have steps enough.
LONGER = 2
WARMUP = 16
TOLD = re.compile(r"draft auto = steps by length \((.*?)\), (\d+) switches; (.*)")


@dataclass(frozen=True)
class Text:
    """What one answer is asked for.

    Attributes:
        prompt: the text before it.
        forced: the answer itself, or "" to let the model go on as it will.
    """

    prompt: str
    forced: str = ""


def texts(n_predict: int, quick: bool) -> dict[str, Text]:
    """The texts by name: kinds that the miniature goes on with by itself, and two that switch midway."""
    part = int(LONGER * n_predict / 2 * PER_TOKEN)

    names = (
        ("maintenance_log", "analysis")
        if quick
        else ("maintenance_log", "extraction", "code", "narrative", "analysis")
    )
    found = {name: Text(prompt_text(name, PROMPT_CHARS, MEASURED_SEED)) for name in names}
    log, story = (
        context_text(name, 2 * (PROMPT_CHARS + part), MEASURED_SEED)
        for name in ("maintenance_log", "narrative")
    )
    parts = {"log, then story": (log, story), "story, then log": (story, log)}
    for name, (first, second) in parts.items():
        forced = first[PROMPT_CHARS : PROMPT_CHARS + part] + "\n\n" + second[:part]
        found[name] = Text(first[:PROMPT_CHARS], forced)
    return found


def grammar(text: str) -> str:
    """A grammar that allows this one text."""
    return "root ::= " + " ".join(json.dumps(text[at : at + 200]) for at in range(0, len(text), 200))


def tokens_of(where: str, text: str) -> int:
    """How many tokens llama-server makes of a text."""
    request = urllib.request.Request(
        f"{where}/tokenize", json.dumps({"content": text}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(json.load(answer)["tokens"])


def flags(arm: str) -> tuple[str, ...]:
    """What an arm adds to the server's command line."""
    if arm == OFF:
        return ()
    length = str(LIMIT) if arm == AUTO else arm
    steered = ("--spec-draft-auto",) if arm == AUTO else ()
    return ("--spec-type", "draft-mtp", "--spec-draft-n-max", length, *steered)


def answered(
    model: Path, arm: str, asked: dict[str, Text], n_predict: int, log: Path
) -> dict[str, dict[str, Any]]:
    """What one server of an arm answers to every text: speed, tokens, drafts, and how the length was chosen."""
    size = ("-c", "4096", "-ub", "512", "-b", "2048", "-t", str(auto_threads()))
    found: dict[str, dict[str, Any]] = {}
    with llama_server(find(), model, *size, *flags(arm), log=log) as where:
        for name, text in asked.items():
            completion(where, text.prompt[:200], WARMUP)
            # The model may choose other tokens for the same text than the tokenizer does, so not up to its end.
            most = int(0.85 * tokens_of(where, text.forced)) if text.forced else n_predict
            forced: dict[str, Any] = {"grammar": grammar(text.forced)} if text.forced else {}
            done = completion(where, text.prompt, most, **forced)
            if text.forced and not text.forced.startswith(done["content"]):
                raise RuntimeError(f"{name}: the grammar did not hold")
            timings = done["timings"]
            found[name] = {
                # The server's clock for the answer starts when the first token is there.
                "tps": (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1e3,
                "tokens": done["tokens"],
                "drafted": timings.get("draft_n", 0),
                "accepted": timings.get("draft_n_accepted", 0),
            }
    if arm == AUTO:
        # Of each pair of requests the first one warmed up.
        told = TOLD.findall(log.read_text(errors="replace"))[1::2]
        for name, (steps, switches, why) in zip(asked, told, strict=True):
            found[name] |= {"steps_by_length": steps, "switches": int(switches), "why": why}
    return found


def measured(
    model: Path, asked: dict[str, Text], n_predict: int, rounds: int
) -> list[dict[str, dict[str, Any]]]:
    """Of each round, by arm: what `answered` gives."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            order = ARMS if number % 2 == 0 else ARMS[::-1]
            samples.append(
                {arm: answered(model, arm, asked, n_predict, Path(folder) / "log") for arm in order}
            )
            print(f"round {number + 1} of {rounds}", flush=True)
    return samples


def ratio(mine: list[float], theirs: list[float]) -> dict[str, Any]:
    """One arm over another, paired by round."""
    found = statistics.paired(mine, theirs)
    assert found is not None
    return {"ratio": round(found.ratio, 4), "interval": [round(value, 4) for value in found.interval or ()]}


def row(samples: list[dict[str, dict[str, Any]]], name: str) -> dict[str, Any]:
    """What the rounds say of one text."""
    tps = {arm: [each[arm][name]["tps"] for each in samples] for arm in ARMS}
    fixed = [arm for arm in ARMS if arm != AUTO]
    best = max(fixed, key=lambda arm: plain_statistics.median(tps[arm]))
    first, last = samples[0], samples[-1]
    plain = first[OFF][name]["tokens"]
    differs = {
        arm: next(
            (at for at, (a, b) in enumerate(zip(first[arm][name]["tokens"], plain, strict=True)) if a != b),
            None,
        )
        for arm in ARMS
    }
    return {
        "n_predict": len(plain),
        "tps": {arm: [round(value, 2) for value in values] for arm, values in tps.items()},
        "best_fixed": best,
        "auto_over_best_fixed": ratio(tps[AUTO], tps[best]),
        "auto_over_off": ratio(tps[AUTO], tps[OFF]),
        "auto_over": {arm: ratio(tps[AUTO], tps[arm]) for arm in fixed},
        "drafted_and_accepted": {
            arm: [first[arm][name][key] for key in ("drafted", "accepted")] for arm in ARMS
        },
        "first_token_that_differs_from_off": {arm: at for arm, at in differs.items() if at is not None},
        "auto_chose": [
            {key: each[AUTO][name][key] for key in ("steps_by_length", "switches", "why")}
            for each in (first, last)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("miniature", "ballast"))
    parser.add_argument("--quick", action="store_true", help="two kinds of text and short answers: a try")
    options = parser.parse_args()
    facts = machine()
    # A step of the miniature itself takes half a millisecond: a longer answer for a steadier figure.
    cases = {"miniature": (miniature(), 800), "ballast": (miniature(BALLAST), 160)}
    found: dict[str, dict[str, Any]] = {}
    switching: list[str] = []
    for case, (model, n_predict) in cases.items():
        if options.only not in (None, case):
            continue
        most = n_predict // 4 if options.quick else n_predict
        asked = texts(most, options.quick)
        samples = measured(model, asked, most, options.rounds)
        switching = [name for name, text in asked.items() if text.forced]
        found[case] = {name: row(samples, name) for name in asked}
    path = write_result(
        "server-auto",
        {
            "what": "tokens per second of llama-server by draft length, fixed and steered (--spec-draft-auto)",
            "model_sha256": SHA256,
            "ballast": {"weights": BALLAST.weights, "kv": BALLAST.kv},
            "limit": LIMIT,
            "rounds": options.rounds,
            "forced": switching,
            "goals": {
                "auto_over_best_fixed": 0.97,
                "auto_over_off": 0.98,
                "auto_over each fixed length, forced texts": 1.0,
            },
            "cases": found,
            "machine": facts,
        },
    )
    rows = [
        (
            f"{case}, {name}",
            f"auto / best fixed ({each['best_fixed']}) {each['auto_over_best_fixed']['ratio']:.3f} "
            f"{each['auto_over_best_fixed']['interval']}, / off {each['auto_over_off']['ratio']:.3f}",
        )
        for case, kinds in found.items()
        for name, each in kinds.items()
    ]
    show("--spec-draft-auto through HTTP", rows)
    print(f"result: {path}")


if __name__ == "__main__":
    main()
