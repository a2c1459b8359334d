"""The draft length controller rehearsed: recorded and made-up texts, on the step costs of several machines.

Recorded texts are those of `results/miniature/acceptance_lookahead.json`, where every token knows how many drafts after
it would be accepted; made-up ones are steady, switching, drifting and taking turns, and one answers the controller with
spite: all is accepted until it drafts long, then nothing. In another one the machine is slow at first, as a process is;
it stands apart, as does the machine on which catching up takes more than the account earns. So do machines with moods:
several texts one after the other while they go at half their speed for a while and stall now and then, told by what the
same steps take in quiet, as there is no other way to say what the choice was worth, and once more with every length
timed before the first text (`engine.profile`). For each the speed against
the best fixed length in hindsight (the same length for all texts of a kind) and against plain decode. Writes
`control-simulation.json`.

    python benchmarks/control_simulation.py
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from common import ROOT, machine, show, write_result

from llamacpp_tools.engine.control import Control
from llamacpp_tools.engine.profile import room
from llamacpp_tools.engine.rehearsal import Machine, best_fixed, made_up, profiled, rehearse
from llamacpp_tools.engine.trace import runs as runs_of
from llamacpp_tools.results import document

SEEDS = 10
TOKENS = 1500
NOISE = 0.03
RECORDED = ROOT / "results" / "miniature" / "acceptance_lookahead.json"
# Step times in ms by draft length. The first two are shared/facts' own measurements of a small model (linear between
# the lengths that were measured), the third is drawn after the published dense figures at 123k tokens (a step with a
# draft of 3 takes three plain ones), the next has a kernel that takes eight columns and no more. The last is made up
# after the miniature: so small that the MTP block takes a twentieth of a step for each token it has to catch up with.
DEAR = "catching up is dear"
# A process's first decodes: the plain step is timed there, and beside it every draft seems to pay.
COLD = "hardly a draft survives, and the first eight steps take twice as long"
# Texts of a controller, and what befalls the machine meanwhile: chance of another pace and of a stall, and the noise.
IN_A_ROW = 4
# Seeds that no text has.
OTHER = 1000
MOODY = {
    "another pace every 30 steps": (1 / 30, 0.02, 0.1),
    "another pace every 200 steps": (1 / 200, 0.02, 0.1),
    "another pace every 1,000 steps": (1 / 1000, 0.005, 0.06),
    "stalls": (0.0, 0.03, 0.1),
}
QUIET = {
    "attention is all (tiny at 4,096)": Machine((3.11, 6.85, 10.72, 14.59, 18.32, 22.05, 25.78, 29.5, 33.2)),
    "weights are all (q8_0 at 64)": Machine((9.1, 13.46, 14.57, 15.68, 17.29, 18.9, 20.76, 22.6, 24.5)),
    "as published at 123k": Machine((26.96, 45.0, 63.1, 81.2, 99.3, 117.4, 135.5, 153.6, 171.7)),
    "a cliff after 8 columns": Machine((10.0, 11.5, 12.8, 14.0, 15.2, 16.4, 17.5, 18.6, 30.0)),
    DEAR: Machine((1.0, 1.32, 1.6, 1.75, 2.0, 2.27, 2.55, 2.8, 3.1), catch_up=0.05),
}
Text = Callable[[int], list[int]]


def main() -> None:
    """Rehearse everything and write what came of it."""
    rows = [
        _row(kind, text, where, dataclasses.replace(quiet, noise=NOISE))
        for kind, text in _texts()
        for where, quiet in QUIET.items()
    ]
    rows += [_spite(where, quiet) for where, quiet in QUIET.items()]
    rows += [
        _row(
            COLD,
            lambda seed: made_up(lambda *_: 0.02, TOKENS, seed),
            where,
            dataclasses.replace(quiet, noise=NOISE, cold=8),
        )
        for where, quiet in QUIET.items()
    ]
    moody = [
        _in_a_row(chance, mood, where, quiet)
        for chance in (0.55, 0.75, 0.9)
        for mood in MOODY
        for where, quiet in QUIET.items()
    ]
    summary = {
        **_summary(rows),
        "machines with moods": _moody(moody),
        "machines with moods, profiled": _moody([row["profiled"] for row in moody]),
    }
    path = write_result(
        "control-simulation",
        {"what": __doc__, "summary": summary, "rows": rows, "moody": moody, "machine": machine()},
    )
    show(str(path.relative_to(ROOT)), [(f"{row['text']} | {row['machine']}", _words(row)) for row in rows])
    for name, figures in summary.items():
        print(name, figures)


def _texts() -> Iterator[tuple[str, Text]]:
    def steady(chance: float) -> Text:
        return lambda seed: made_up(lambda token, position: chance, TOKENS, seed)

    for chance in (0.1, 0.3, 0.5, 0.7, 0.85, 0.95):
        yield f"steady {chance}", steady(chance)
    yield (
        "0.22, then 0.07",
        lambda seed: made_up(lambda _, position: 0.07 if position else 0.22, TOKENS, seed),
    )
    yield (
        "switching 0.3 to 0.95",
        lambda seed: made_up(lambda token, _: 0.95 if token > TOKENS / 2 else 0.3, TOKENS, seed),
    )
    yield (
        "switching 0.95 to 0.3",
        lambda seed: made_up(lambda token, _: 0.3 if token > TOKENS / 2 else 0.95, TOKENS, seed),
    )
    yield (
        "taking turns, 150 tokens each",
        lambda seed: made_up(lambda token, _: 0.95 if token // 150 % 2 else 0.2, TOKENS, seed),
    )
    yield (
        "drifting 0.2 to 0.95",
        lambda seed: made_up(lambda token, _: 0.2 + 0.75 * token / TOKENS, TOKENS, seed),
    )
    for name, runs in _recorded().items():
        yield f"recorded: {name}", lambda seed, runs=runs: runs  # type: ignore[misc]


def _recorded() -> dict[str, list[int]]:
    found = {}
    for cell in document.read(RECORDED).cells:
        if cell.traced and cell.status == "ok" and cell.output_tokens and cell.n_max:
            found[cell.workload] = runs_of(cell.output_tokens, cell.samples[0].predicted, cell.n_max)
    return found


def _row(kind: str, text: Text, where: str, box: Machine) -> dict[str, Any]:
    texts = [text(seed) for seed in range(SEEDS)]
    each = list(enumerate(texts))
    auto = [rehearse(Control(box.limit), runs, box, seed) for seed, runs in each]
    fixed = [[rehearse(length, runs, box, seed).ms for seed, runs in each] for length in range(box.limit + 1)]
    best = min(range(len(fixed)), key=lambda length: sum(fixed[length]))
    share = {
        length: statistics.fmean(went.time_share.get(length, 0.0) for went in auto)
        for length in range(len(fixed))
    }
    return {
        "text": kind,
        "machine": where,
        "best_fixed": best,
        "over_best_fixed": round(sum(fixed[best]) / sum(went.ms for went in auto), 4),
        "over_luckiest_fixed": round(
            statistics.fmean(
                went.tps / best_fixed(runs, box, seed)[1].tps
                for went, (seed, runs) in zip(auto, each, strict=True)
            ),
            4,
        ),
        "over_plain": round(sum(fixed[0]) / sum(went.ms for went in auto), 4),
        "lowest_over_plain": round(
            min(plain / went.ms for plain, went in zip(fixed[0], auto, strict=True)), 4
        ),
        "time_share": {length: round(part, 3) for length, part in share.items() if part > 0.0005},
    }


def _in_a_row(chance: float, mood: str, where: str, quiet: Machine) -> dict[str, Any]:
    """Texts of a controller, one after the other: quiet time of the best fixed length for all over its own, by text."""
    moods, stalls, noise = MOODY[mood]
    box = dataclasses.replace(quiet, moods=moods, stalls=stalls, noise=noise, change=0.1)
    over: dict[bool, list[list[float]]] = {False: [], True: []}
    for seed in range(SEEDS):
        texts = [made_up(lambda *_: chance, TOKENS, IN_A_ROW * seed + number) for number in range(IN_A_ROW)]
        fixed = [[rehearse(n, runs, quiet, seed).ms for runs in texts] for n in range(box.limit + 1)]
        best = min(fixed, key=sum)
        for known, found in over.items():
            control, over_each = Control(box.limit), []
            if known:
                other = made_up(lambda *_: chance, room(box.limit), OTHER + seed)
                profiled(control, other, box, OTHER + seed)
            for number, runs in enumerate(texts):
                control.begin()
                went = rehearse(control, runs, box, IN_A_ROW * seed + number)
                over_each.append(best[number] / went.quiet_ms)
            found.append(over_each)
    return {
        "text": f"steady {chance}",
        "machine": where,
        "mood": mood,
        **_first_and_later(over[False]),
        "profiled": _first_and_later(over[True]),
    }


def _first_and_later(over: list[list[float]]) -> dict[str, float]:
    first, later = [each[0] for each in over], [ratio for each in over for ratio in each[1:]]
    return {
        "first": round(statistics.fmean(first), 4),
        "first_lowest": round(min(first), 4),
        "later": round(statistics.fmean(later), 4),
        "later_lowest": round(min(later), 4),
    }


def _moody(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "a process's first text": {
            "mean": round(statistics.fmean(row["first"] for row in rows), 4),
            "lowest": min(row["first_lowest"] for row in rows),
        },
        "later ones": {
            "mean": round(statistics.fmean(row["later"] for row in rows), 4),
            "lowest": min(row["later_lowest"] for row in rows),
        },
    }


def _spite(where: str, box: Machine) -> dict[str, Any]:
    """A text that accepts everything until the controller drafts four tokens or more, and nothing after that."""
    control, ms, tokens, burnt = Control(box.limit), 0.0, 0, False
    while tokens < TOKENS:
        length = control.choose()
        burnt = burnt or length >= 4
        accepted = 0 if burnt else length
        draft = length * box.draft * box.step_ms[0]
        control.told(length, accepted, round(draft * 1e6), round((box.step_ms[length] - draft) * 1e6))
        ms += box.step_ms[length]
        tokens += accepted + 1
    plain = tokens * box.step_ms[0]
    return {
        "text": "spite",
        "machine": where,
        "over_plain": round(plain / ms, 4),
        "lowest_over_plain": round(plain / ms, 4),
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cold = [row for row in rows if row["text"] == COLD]
    rows = [row for row in rows if row not in cold]
    # Where that is dearer than what the account earns, probing costs more than it is allowed to: a case of its own.
    apart = [row for row in rows if row["machine"] == DEAR]
    return {
        **_figures([row for row in rows if row not in apart]),
        DEAR: _figures(apart),
        f"over plain decode where {COLD}": {
            "median": statistics.median(row["over_plain"] for row in cold),
            "lowest": min(row["lowest_over_plain"] for row in cold),
        },
    }


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    told = [row for row in rows if "over_best_fixed" in row]
    kinds: dict[str, Callable[[str], bool]] = {
        "steady": lambda text: text.startswith(("steady", "0.22")),
        "changing": lambda text: text.startswith(("switching", "taking", "drifting")),
        "recorded": lambda text: text.startswith("recorded"),
    }
    found: dict[str, Any] = {}
    for name, is_one in kinds.items():
        ratios = [row["over_best_fixed"] for row in told if is_one(row["text"])]
        found[name] = (
            {"n": len(ratios), "median": statistics.median(ratios), "lowest": min(ratios)} if ratios else None
        )
    found["lowest over plain decode, any text"] = min(row["lowest_over_plain"] for row in rows)
    return found


def _words(row: dict[str, Any]) -> str:
    best = f"{row['over_best_fixed']:.3f} of n={row['best_fixed']}, " if "best_fixed" in row else ""
    return f"{best}{row['over_plain']:.3f} of plain"


if __name__ == "__main__":
    main()
