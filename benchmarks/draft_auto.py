"""The draft length that steers itself against every fixed one, on real decodes, taken in turns.

For each place (a model, a depth, a kind of text or a conversation that changes its kind midway) one process holds a
session for plain decode, one for each fixed length, and one that steers itself. They generate the same texts, a block
of tokens each in turns, so that whatever slows the machine meets all of them. The first text of a process finds a
controller that knows nothing, the others one that has seen a text, as in a server. A process keeps the speed that its
memory layout gave each session, so a place is measured in several, one after the other, and what its texts give
together is one value of each: the figure is their median, the interval is over them. A second session that steers
itself had every length timed before the first text (`Session.profile`): its figures stand under `profiled`.

The kinds differ little in what pays as the miniature itself writes them. So there are texts that are given as well, a
log that goes on as pages of this tree's documents, which the miniature was not taught, and the other way round: what
is accepted is what the block drafts right of them. And there are texts whose acceptance is made up, a chance for each
half. The steps are real ones and take what they take.

Goals: auto at least 0.97 of the best fixed length, plain decode among them; above every fixed length where the text
changes; at least 0.98 of plain decode everywhere; the tokens those of plain decode. Writes `draft-auto.json`.

    python benchmarks/draft_auto.py [--processes 4] [--texts 3] [--add NAME … [--workload KIND …]]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import draft_arms
from common import ROOT, machine, show, write_result
from draft_arms import ARMS, AUTO, FIXED_ARMS, PAGES, PLAIN, PROFILED, STEERED, Place

from llamacpp_tools.engine.control import REASONS, Why
from llamacpp_tools.results.statistics import Paired, paired
from llamacpp_tools.workloads import names
from llamacpp_tools.workloads.cut import turns_label, turns_of

CHANGES = [turns_label(["analysis", "maintenance_log"]), turns_label(["maintenance_log", "factual"])]
# Chances of a drafted token in the two halves of a text whose acceptance is made up. Those of the last one give what
# the published runs on analysis and on a log have at drafts of 3: 0.51 and 0.81 of all tokens that are drafted.
MADE_UP = {
    "made up: 0.3, then 0.95": (0.3, 0.95),
    "made up: 0.95, then 0.3": (0.95, 0.3),
    "made up: 0.7, then 0.9": (0.7, 0.9),
}
# Kinds of the parts of a text that is given.
GIVEN: dict[str, tuple[str, ...]] = {
    "given: pages": (PAGES,),
    "given: maintenance_log, then pages": ("maintenance_log", PAGES),
    "given: pages, then maintenance_log": (PAGES, "maintenance_log"),
}
KINDS = list(names())
SOME = ["maintenance_log", "analysis", "factual"]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Places of one model.

    Attributes:
        model: `miniature`, or a preset of `llt model synth`.
        ballast: bytes of weights and KV width that the miniature gets.
        depths, workloads: each with each.
        n_predict: tokens of a text.
    """

    model: str = "miniature"
    ballast: tuple[int, int] = (0, 0)
    depths: tuple[int, ...] = (512,)
    workloads: tuple[str, ...] = (*KINDS, *CHANGES, *GIVEN, *MADE_UP)
    n_predict: int = 1536

    def place(self, depth: int, workload: str) -> Place:
        """One of them."""
        chances, given = MADE_UP.get(workload, ()), GIVEN.get(workload, ())
        kinds = ("analysis",) if chances or given else tuple(turns_of(workload))
        return Place(self.model, self.ballast, depth, self.n_predict, kinds, chances, given)


SWEEPS = {
    "weights": Sweep(
        ballast=(120_000_000, 0), workloads=(*SOME, "code", *CHANGES, *GIVEN, *MADE_UP), n_predict=768
    ),
    "miniature": Sweep(),
    "random": Sweep("tiny", depths=(512, 2048), workloads=("analysis",)),
    "deep": Sweep(depths=(4096,), workloads=(*SOME, CHANGES[0])),
    "weights and KV": Sweep(
        ballast=(60_000_000, 2048), depths=(2048,), workloads=("maintenance_log", CHANGES[0]), n_predict=768
    ),
}


def main() -> None:
    """Measure the places that are asked for and write the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SWEEPS)}; all by default")
    parser.add_argument("--texts", type=int, default=3, help="of each process")
    parser.add_argument("--processes", type=int, default=4, help="of each place")
    parser.add_argument("--workload", action="append", help="only these")
    parser.add_argument("--add", action="store_true", help="keep the other places of the file")
    asked = parser.parse_args()
    if told := _not_to_be_asked(asked):
        parser.error(told)
    rows: list[dict[str, Any]] = _earlier() if asked.add else []
    here = machine()
    for name in asked.names or SWEEPS:
        sweep = SWEEPS[name]
        for depth, workload in itertools.product(sweep.depths, asked.workload or sweep.workloads):
            row = _row(name, depth, workload, asked.texts, asked.processes)
            row["llt_commit"], row["cpu_info"] = here["llt_commit"], here["cpu_info"]
            rows = [*(each for each in rows if each["place"] != row["place"]), row]
            print(f"{rows[-1]['place']}: {_words(rows[-1])}", file=sys.stderr)
            result = {"what": __doc__, "rows": rows, "summary": _summary(rows), "machine": here}
            path = write_result("draft-auto", result)
    show(str(path.relative_to(ROOT)), [(row["place"], _words(row)) for row in rows])
    print(json.dumps(result["summary"], indent=2))


def _not_to_be_asked(asked: argparse.Namespace) -> str | None:
    """What is wrong with what is asked, before hours of measuring end with it."""
    if unknown := [name for name in asked.names if name not in SWEEPS]:
        return f"{', '.join(unknown)}: there is {', '.join(SWEEPS)}"
    known = {*KINDS, *CHANGES, *GIVEN, *MADE_UP}
    if unknown := [name for name in asked.workload or () if name not in known]:
        return f"--workload {', '.join(unknown)}: there is {', '.join(sorted(known))}"
    if asked.texts < 1 or asked.processes < 1:
        return "--texts and --processes are 1 at least"
    if (asked.names or asked.workload) and not asked.add:
        return "the other places would be lost: say --add, or leave names and --workload out for all"
    return None


def _row(name: str, depth: int, workload: str, texts: int, processes: int) -> dict[str, Any]:
    place = SWEEPS[name].place(depth, workload)
    parts = [_in_a_process(place, first, texts) for first in range(0, processes * texts, texts)]
    tps = {arm: [round(value, 1) for part in parts for value in part["decode_tps"][arm]] for arm in ARMS}
    turn_ns = {
        arm: [sum(part["turn_ns"][arm][turn] for part in parts) for turn in range(place.parts)]
        for arm in FIXED_ARMS
    }
    did = {arm: _did([part["did"][arm] for part in parts], processes * texts) for arm in STEERED}
    plain_ns = 1e9 / statistics.median(tps[PLAIN])
    return {
        "place": f"{name}, depth {depth}, {workload}",
        "changes": place.parts > 1,
        "made_up": bool(place.chances),
        "given": bool(place.given),
        "processes": processes,
        **_judged(tps, processes),
        "decode_tps": tps,
        "tokens": _added(part["tokens"] for part in parts),
        "best_by_turn_over_best": _ceiling(turn_ns),
        **did[AUTO],
        "did_profiled": did[PROFILED],
        "profile_plain_steps": round(statistics.median(part["profile_ns"] for part in parts) / plain_ns),
    }


def _did(parts: list[dict[str, dict[str, int]]], texts: int) -> dict[str, Any]:
    """What an arm that steers itself did in all of its processes."""
    length_ns, why_ns, other = (
        _added(part[what] for part in parts) for what in ("length_ns", "why_ns", "other")
    )
    total = sum(length_ns.values())
    return {
        "control_share": round(other["control_ns"] / total, 4),
        "changes_per_text": round(other["changes"] / texts, 1),
        "time_share": {length: round(ns / total, 4) for length, ns in sorted(length_ns.items())},
        "time_by_reason": {
            REASONS[Why(int(why))]: round(ns / total, 4) for why, ns in sorted(why_ns.items())
        },
    }


def _in_a_process(place: Place, first: int, texts: int) -> dict[str, Any]:
    """What `draft_arms` gives, from a fresh process: each keeps the speed that its memory layout gave it."""
    asked = json.dumps({"place": dataclasses.asdict(place), "first": first, "texts": texts})
    done = subprocess.run([sys.executable, draft_arms.__file__, asked], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _earlier() -> list[dict[str, Any]]:
    """The rows of the file, judged as new ones are."""
    found = json.loads((ROOT / "results" / "benchmarks" / "draft-auto.json").read_text())
    rows = [{"cpu_info": found["machine"]["cpu_info"], **row} for row in found["rows"]]
    # Rows without a number of processes are of one, with each text for itself.
    return [
        {**row, **_judged(row["decode_tps"], row.get("processes", len(row["decode_tps"][AUTO])))}
        for row in rows
    ]


def _judged(texts: dict[str, list[float]], processes: int) -> dict[str, Any]:
    # The texts of one process have its luck in common: together they are one value.
    tps = {arm: _by_process(values, processes) for arm, values in texts.items()}
    # By all texts together: the length that an owner would have set for this place, had they known.
    best = max(FIXED_ARMS, key=lambda arm: sum(map(math.log, tps[arm])))
    found = {"best_fixed": best, **_against(AUTO, best, tps, texts, processes)}
    if PROFILED in texts:
        over_auto = _figures(_paired(tps[PROFILED], tps[AUTO]))
        found["profiled"] = {**_against(PROFILED, best, tps, texts, processes), "over_auto": over_auto}
    return found


def _against(
    ours: str, best: str, tps: dict[str, list[float]], texts: dict[str, list[float]], processes: int
) -> dict[str, Any]:
    """One of the arms that steer themselves against the fixed ones."""
    over = {arm: _paired(tps[ours], tps[arm]) for arm in FIXED_ARMS}
    return {
        "over_best_fixed": _figures(over[best]),
        "over_best_of_the_others": _figures(_by_the_others(ours, tps)),
        "over_best_fixed_by_text": _by_text(texts[ours], texts[best], processes),
        "over_plain": _figures(over[PLAIN]),
        "over": {arm: round(ratio.ratio, 4) for arm, ratio in over.items()},
    }


def _paired(ours: list[float], theirs: list[float]) -> Paired:
    found = paired(ours, theirs)
    assert found is not None
    return found


def _by_process(values: list[float], processes: int) -> list[float]:
    texts = len(values) // processes
    return [
        math.exp(sum(map(math.log, values[first : first + texts])) / texts)
        for first in range(0, len(values), texts)
    ]


def _by_text(ours: list[float], theirs: list[float], processes: int) -> list[float]:
    """By a process's first, second, … text: the first one finds a controller that knows nothing."""
    texts = len(ours) // processes
    return [round(math.exp(_mean_log(ours[at::texts], theirs[at::texts])), 4) for at in range(texts)]


def _by_the_others(ours: str, tps: dict[str, list[float]]) -> Paired:
    """Each process's texts against the fixed length that was best in the others: what an owner can know before.

    The best in hindsight is also the luckiest of those that are as good, and the more so the fewer the texts.
    """
    processes = range(len(tps[ours]))

    def best(but: int) -> str:
        others = [each for each in processes if each != but] or [but]
        return max(FIXED_ARMS, key=lambda arm: sum(math.log(tps[arm][each]) for each in others))

    return _paired(tps[ours], [tps[best(each)][each] for each in processes])


def _mean_log(ours: list[float], theirs: list[float]) -> float:
    return sum(math.log(a / b) for a, b in zip(ours, theirs, strict=True)) / len(ours)


def _ceiling(turn_ns: dict[str, list[float]]) -> float:
    """How much faster than the best fixed length one would be that had each turn's best: what a change has to give."""
    each_best = sum(min(arms) for arms in zip(*turn_ns.values(), strict=True))
    best: float = min(sum(arms) for arms in turn_ns.values()) / each_best
    return round(best, 4)


def _figures(found: Paired) -> dict[str, Any]:
    return {"ratio": found.ratio, "interval": found.interval, "values": found.rounds}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    profiled = [{**row, **row["profiled"]} for row in rows if "profiled" in row]
    return {
        **_reached(rows),
        "profiled before the first text": _reached(profiled),
        "the same places, not profiled": _reached([row for row in rows if "profiled" in row]),
        "tokens": {
            what: sum(row["tokens"][what] for row in rows) for what in (rows[0]["tokens"] if rows else ())
        },
    }


def _reached(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many places reach each goal, by the ratio and by its interval, and the lowest ratio."""
    found: dict[str, Any] = {}
    for goal, at_least, key, which in (
        ("of the best fixed length", 0.97, "over_best_fixed", [row for row in rows if not row["changes"]]),
        (
            "of the best fixed length on a text that changes",
            1.0,
            "over_best_fixed",
            [row for row in rows if row["changes"] and not row.get("made_up") and not row.get("given")],
        ),
        (
            "of the best fixed length on a text that changes, given",
            1.0,
            "over_best_fixed",
            [row for row in rows if row["changes"] and row.get("given")],
        ),
        (
            "of the best fixed length on a text that changes, made up",
            1.0,
            "over_best_fixed",
            [row for row in rows if row.get("made_up")],
        ),
        (
            "of the fixed length that was best on other texts of the kind",
            0.97,
            "over_best_of_the_others",
            [row for row in rows if not row["changes"]],
        ),
        ("of plain decode", 0.98, "over_plain", rows),
    ):
        ratios = [row[key]["ratio"] for row in which]
        # One process alone has no interval and shows nothing.
        tops = [row[key]["interval"][1] for row in which if row[key]["interval"]]
        found[goal] = {
            "goal": at_least,
            "places": len(ratios),
            "reached": sum(ratio >= at_least for ratio in ratios),
            "shown_to_miss": sum(top < at_least for top in tops),
            "lowest": round(min(ratios), 4) if ratios else None,
            "median": round(statistics.median(ratios), 4) if ratios else None,
        }
    steady = [row["over_best_fixed_by_text"] for row in rows if not row["changes"]]
    first = [each[0] for each in steady]
    later = [ratio for each in steady for ratio in each[1:]]
    found["steady places, a process's first text and its later ones, of the best fixed length"] = [
        round(statistics.median(ratios), 4) if ratios else None for ratios in (first, later)
    ]
    return found


def _words(row: dict[str, Any]) -> str:
    best, plain = row["over_best_fixed"], row["over_plain"]
    low, high = best["interval"] or (best["ratio"], best["ratio"])
    said = (
        f"{best['ratio']:.3f} ({low:.3f} to {high:.3f}) of the best fixed ({row['best_fixed']}),"
        f" {plain['ratio']:.3f} of plain decode"
    )
    if "profiled" in row:
        said += f"; profiled {row['profiled']['over_best_fixed']['ratio']:.3f}"
    return said


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
