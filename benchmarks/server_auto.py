"""`--spec-draft-auto` in llama-server against plain decode and every fixed draft length, through HTTP.

    python benchmarks/server_auto.py [--rounds N] [--only CASE] [--quick]

Every arm has a server of its own, and all of a round live side by side: each text is asked of all arms, one after the
other in an order drawn anew, so that what slows the machine meets them alike. A round has texts and servers of its own,
as a process keeps the speed that its memory layout gave it; a second server without MTP says how far two that are equal
differ. A ratio is the median of the rounds' ratios with its 95 % interval (t on their logarithms). Tokens per second
are the server's own timings of the answer. What the steered one does after its end is not in them: the draft context
sees what it has yet to see, a plain step's worth of it or eight tokens. Every arm must give plain decode's tokens, or
the text's row says where not.

A text that switches class midway is forced: a grammar that allows this one text makes the model write a log that goes
on as a story (or the other way round); what is drafted is compared with that text, and every arm pays for the grammar.

Without flash attention, as the harness has it (`draft_auto.py`). With it, the server's default, hardly a draft length
pays on the bare miniature: a case of its own, and one beside plain decode alone, whose rounds are short, so that there
can be more of them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics as plain_statistics
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, machine, show, write_result
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
AUTO, OFF, AGAIN = "auto", "off", "off again"
PLAIN = (OFF, AGAIN)
ARMS = (*PLAIN, *(str(length) for length in FIXED), AUTO)
BALLAST = Ballast(120_000_000, 0)
NAME = "server-auto"
FORCED = ("log, then story", "story, then log")
PROMPT_CHARS = 1500
# About so many characters make a token of the miniature's.
PER_TOKEN = 2.8
# A forced answer is so much longer than a free one, so that both of its halves have steps enough.
LONGER = 2
WARMUP = 64
TOLD = re.compile(
    r"draft auto = steps by length \((.*?)\), (\d+) switches, (\d+) tokens not caught up with; (.*)"
)


@dataclass(frozen=True)
class Case:
    """What all arms of a comparison have in common.

    Attributes:
        ballast: what the miniature gets.
        n_predict: tokens of an answer; a step of the miniature itself takes a millisecond.
        flash_attn: of the servers.
        arms: the two without MTP and the steered one at least.
    """

    ballast: Ballast | None
    n_predict: int
    flash_attn: str = "off"
    arms: tuple[str, ...] = ARMS


CASES = {
    "miniature": Case(None, 800),
    "ballast": Case(BALLAST, 400),
    "miniature, flash attention": Case(None, 800, "on"),
    "miniature, flash attention, beside plain decode": Case(None, 800, "on", (*PLAIN, AUTO)),
}

# What the steered arm's log says of an answer.
CHOSE = ("steps_by_length", "switches", "not_caught_up_with", "why")


# Of one text, by arm.
Answers = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Text:
    """What one answer is asked for.

    Attributes:
        prompt: the text before it.
        forced: the answer itself, or "" to let the model go on as it will.
    """

    prompt: str
    forced: str = ""


def texts(n_predict: int, seed: int, quick: bool) -> dict[str, Text]:
    """The texts by name: kinds that the miniature goes on with by itself, and two that switch midway."""
    part = int(LONGER * n_predict / 2 * PER_TOKEN)

    names = (
        ("maintenance_log", "analysis")
        if quick
        else ("maintenance_log", "extraction", "code", "narrative", "analysis")
    )
    found = {name: Text(prompt_text(name, PROMPT_CHARS, seed)) for name in names}
    log, story = (
        context_text(name, 2 * (PROMPT_CHARS + part), seed) for name in ("maintenance_log", "narrative")
    )
    for name, (first, second) in zip(FORCED, ((log, story), (story, log)), strict=True):
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
    if arm in PLAIN:
        return ()
    length = str(LIMIT) if arm == AUTO else arm
    steered = ("--spec-draft-auto",) if arm == AUTO else ()
    return ("--spec-type", "draft-mtp", "--spec-draft-n-max", length, *steered)


@contextmanager
def servers(case: Case, folder: Path) -> Iterator[dict[str, str]]:
    """A server of each arm, which has answered once; yields their addresses."""
    size = ("-c", "4096", "-ub", "512", "-b", "2048", "-t", str(auto_threads()), "-fa", case.flash_attn)
    model = miniature(case.ballast)
    with ExitStack() as stack:
        found = {}
        for arm in case.arms:
            log = folder / arm
            found[arm] = stack.enter_context(llama_server(find(), model, *size, *flags(arm), log=log))
            completion(found[arm], prompt_text("factual", PROMPT_CHARS, MEASURED_SEED - 1), WARMUP)
        yield found


def answered(where: str, text: Text, most: int) -> dict[str, Any]:
    """What a server answers: speed, tokens and drafts."""
    forced: dict[str, Any] = {"grammar": grammar(text.forced)} if text.forced else {}
    done = completion(where, text.prompt, most, **forced)
    if text.forced and not text.forced.startswith(done["content"]):
        raise RuntimeError("the grammar did not hold")
    timings = done["timings"]
    return {
        # The server's clock for the answer starts when the first token is there.
        "tps": (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1e3,
        "tokens": done["tokens"],
        "drafted": timings.get("draft_n", 0),
        "accepted": timings.get("draft_n_accepted", 0),
    }


def measured(case: Case, rounds: int, quick: bool) -> list[dict[str, Answers]]:
    """Of each round, by text and arm: what `answered` gives, and of the steered arm how it chose."""
    n_predict = case.n_predict // 4 if quick else case.n_predict
    samples: list[dict[str, Answers]] = []
    chance = random.Random(MEASURED_SEED)
    for number in range(rounds):
        found: dict[str, Answers] = {}
        with tempfile.TemporaryDirectory() as folder:
            with servers(case, Path(folder)) as where:
                for name, text in texts(n_predict, MEASURED_SEED + number, quick).items():
                    # The model may choose other tokens for a text than the tokenizer does, so not up to its end.
                    most = int(0.85 * tokens_of(where[OFF], text.forced)) if text.forced else n_predict
                    order = chance.sample(case.arms, len(case.arms))
                    found[name] = {arm: answered(where[arm], text, most) for arm in order}
            # Its first line is of the request that warmed it up.
            told = TOLD.findall((Path(folder) / AUTO).read_text(errors="replace"))[1:]
        for answers, (steps, switches, skipped, why) in zip(found.values(), told, strict=True):
            answers[AUTO] |= {
                "steps_by_length": steps,
                "switches": int(switches),
                "not_caught_up_with": int(skipped),
                "why": why,
            }
        samples.append(found)
        print(f"round {number + 1} of {rounds}", flush=True)
    return samples


def ratio(mine: list[float], theirs: list[float]) -> dict[str, Any]:
    """One arm over another, paired by round."""
    found = statistics.paired(mine, theirs)
    assert found is not None
    return {"ratio": round(found.ratio, 4), "interval": [round(value, 4) for value in found.interval or ()]}


def speeds(samples: list[Answers], *arms: str) -> list[float]:
    """Of each round: tokens per second, the geometric mean of these arms."""
    return [plain_statistics.geometric_mean(each[arm]["tps"] for arm in arms) for each in samples]


def over_both(*texts: list[Answers]) -> dict[str, Any]:
    """The steered arm over both without MTP, which are equal but for chance; of several texts over all of them."""
    steered, plain = (
        [
            plain_statistics.geometric_mean(each)
            for each in zip(*(speeds(text, *arms) for text in texts), strict=True)
        ]
        for arms in ((AUTO,), PLAIN)
    )
    return ratio(steered, plain)


def row(samples: list[Answers]) -> dict[str, Any]:
    """What the rounds say of one text."""
    arms = [arm for arm in ARMS if arm in samples[0]]
    tps = {arm: speeds(samples, arm) for arm in arms}
    fixed = [arm for arm in arms if arm not in (AUTO, AGAIN)]
    # As the harness has it: by all rounds together.
    best = max(fixed, key=lambda arm: plain_statistics.geometric_mean(tps[arm]))
    differs = {arm: [_parts(each[arm]["tokens"], each[OFF]["tokens"]) for each in samples] for arm in arms}
    return {
        "n_predict": [len(each[OFF]["tokens"]) for each in samples],
        "tps": {arm: [round(value, 2) for value in values] for arm, values in tps.items()},
        "best_fixed": best,
        "auto_over_best_fixed": ratio(tps[AUTO], tps[best]),
        "auto_over_off": ratio(tps[AUTO], tps[OFF]),
        "auto_over_both_off": over_both(samples),
        "off_again_over_off": ratio(tps[AGAIN], tps[OFF]),
        "auto_over": {arm: ratio(tps[AUTO], tps[arm]) for arm in fixed},
        "drafted_and_accepted": {
            arm: [sum(each[arm][key] for each in samples) for key in ("drafted", "accepted")] for arm in arms
        },
        "first_token_that_differs_from_off": {arm: at for arm, at in differs.items() if set(at) != {None}},
        "auto_chose": [{key: each[AUTO][key] for key in CHOSE} for each in samples],
    }


def _parts(ours: list[int], theirs: list[int]) -> int | None:
    """Where two answers part; None if they are the same."""
    return next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=tuple(CASES), help="the others stay in the file as they are")
    parser.add_argument(
        "--quick", action="store_true", help="two kinds of text, short answers: a try, not kept"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is 1 at least")
    facts = machine()
    path = ROOT / "results" / "benchmarks" / f"{NAME}.json"
    found: dict[str, Any] = {}
    if options.only and not options.quick and path.exists():
        found = json.loads(path.read_text())["cases"]
    asked = [options.only] if options.only else list(CASES)
    for case in asked:
        samples = measured(CASES[case], options.rounds, options.quick)
        texts_of = {name: [each[name] for each in samples] for name in samples[0]}
        found[case] = {
            "flash_attn": CASES[case].flash_attn,
            "rounds": options.rounds,
            "llt_commit": facts["llt_commit"],
            "cpu_info": facts["cpu_info"],
            "auto_over_both_off": over_both(*texts_of.values()),
            "texts": {name: row(rounds) for name, rounds in texts_of.items()},
        }
        result = {
            "what": "tokens per second of llama-server by draft length, fixed and steered (--spec-draft-auto)",
            "model_sha256": SHA256,
            "ballast": {"weights": BALLAST.weights, "kv": BALLAST.kv},
            "limit": LIMIT,
            "forced": list(FORCED),
            "goals": {
                "auto_over_best_fixed": 0.97,
                "auto_over_off": 0.98,
                "auto_over each fixed length, forced texts": 1.0,
            },
            "cases": found,
            "machine": facts,
        }
        if not options.quick:
            write_result(NAME, result)
    rows = [
        (
            f"{case}, {name}",
            f"auto / best fixed ({each['best_fixed']}) {each['auto_over_best_fixed']['ratio']:.3f} "
            f"{each['auto_over_best_fixed']['interval']}, / both off {each['auto_over_both_off']['ratio']:.3f} "
            f"{each['auto_over_both_off']['interval']}, off again / off {each['off_again_over_off']['ratio']:.3f}",
        )
        for case in asked
        for name, each in found[case]["texts"].items()
    ]
    rows += [(f"{case}, all texts", f"auto / both off {found[case]['auto_over_both_off']}") for case in asked]
    show("--spec-draft-auto through HTTP", rows)
    if not options.quick:
        print(f"result: {path}")


if __name__ == "__main__":
    main()
