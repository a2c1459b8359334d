"""What a draft leaves behind: how much longer the plain steps after it take.

Plain decode finds in the processor's caches what the step before it used. A draft brings in other memory (the MTP
block, another graph), and what it pushed out comes back over the next steps. So does whatever else comes between two
steps, and that is held beside it: a pause of 3 ms, in which others use the caches, and reading 32 MB. Every 50 tokens
one of these; each arm has a session of its own, all decode the same texts, 64 tokens each in turns. Steps are compared
with those of two sessions that have MTP loaded and never draft; of each arm's steps at one distance the slowest
twentieth is left out, as a stall is nobody's doing. Figures are medians of the processes' own, with an interval over
these. Writes `after-draft.json`.

    python benchmarks/after_draft.py [--processes 4] [--texts 3]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics as plain_statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy
from common import machine, show, write_result
from draft_arms import BLOCK

from llamacpp_tools.build import manifest
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.decode import MtpDecoder
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.shelf import synthetic
from llamacpp_tools.results.statistics import paired
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

NAME = "after-draft"
DEPTH, N_PREDICT, EVERY, LIMIT = 512, 1536, 50, 8
CATCH_UP = 8
KIND = "analysis"
PLACES: dict[str, tuple[Callable[[], Path], Literal["on", "off"]]] = {
    "random model": (lambda: synthetic("tiny"), "off"),
    "miniature": (miniature, "off"),
    "miniature, flash attention": (miniature, "on"),
}
_MEMORY = numpy.ones(4_000_000)


class Arm(NamedTuple):
    """What comes between plain steps.

    Attributes:
        mtp: whether MTP is loaded.
        draft: tokens drafted every `EVERY` tokens.
        between: what is done as often, outside all times.
    """

    mtp: bool = True
    draft: int = 0
    between: Callable[[], object] | None = None


PLAIN, IDLE, AGAIN = "plain decode", "never drafts", "never drafts, again"
ARMS = {
    PLAIN: Arm(mtp=False),
    IDLE: Arm(),
    AGAIN: Arm(),
    "a draft of 1": Arm(draft=1),
    "a draft of 3": Arm(draft=3),
    "a pause of 3 ms": Arm(between=lambda: time.sleep(0.003)),
    "reading 32 MB": Arm(between=_MEMORY.sum),
}
# The first and the last step after it of each group; those after the last group are compared as well.
GROUPS = ((1, 1), (2, 2), (3, 5), (6, 15), (16, 30))
LATER, DRAFT = "later", "draft"


class Timed(NamedTuple):
    """One step.

    Attributes:
        drafted: tokens.
        since: steps since the last draft or whatever came between; 0 before the first one.
        ns: its time.
    """

    drafted: int
    since: int
    ns: int


def main() -> None:
    """Ask one process after the other, and write what they say together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=4, help="of each place")
    parser.add_argument("--texts", type=int, default=3, help="of each process")
    asked = parser.parse_args()
    if asked.processes < 2 or asked.texts < 1:
        parser.error("--processes is 2 at least, --texts is 1")
    rows = []
    for place in PLACES:
        children = [
            _child(place, first, asked.texts)
            for first in range(0, asked.processes * asked.texts, asked.texts)
        ]
        rows += [row(place, arm, children) for arm in ARMS]
        print(f"{place}: done", file=sys.stderr)
    path = write_result(NAME, {"what": __doc__, "rows": rows, "machine": machine()})
    show(f"{path.name}: over a step of a session that never drafts", [_words(each) for each in rows])


def _child(place: str, first: int, texts: int) -> dict[str, dict[str, float]]:
    command = [sys.executable, __file__, "--child", place, str(first), str(texts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def row(place: str, arm: str, children: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """One arm's steps over those of both that never draft, by the distance from what came between."""
    never = [(each[IDLE][LATER] + each[AGAIN][LATER]) / 2 for each in children]
    over: dict[str, Any] = {}
    for group in children[0][arm]:
        # Of times: more is slower.
        found = paired([each[arm][group] for each in children], never)
        assert found is not None
        over[group] = {"ratio": found.ratio, "interval": list(found.interval or ())}
    longer = [
        sum(
            (last - first + 1) * (each[arm][_name(first, last)] / base - 1)
            for first, last in GROUPS
            if _name(first, last) in each[arm]
        )
        for each, base in zip(children, never, strict=True)
    ]
    left_behind = {"median": plain_statistics.median(longer), "processes": longer}
    return {"place": place, "arm": arm, "over_never": over, "plain_steps_left_behind": left_behind}


def _words(found: dict[str, Any]) -> tuple[str, str]:
    ratios = ", ".join(f"{group} {each['ratio']:.3f}" for group, each in found["over_never"].items())
    return (
        f"{found['place']}, {found['arm']}",
        f"{ratios}; {found['plain_steps_left_behind']['median']:.2f} steps",
    )


def measure(place: str, first: int, texts: int) -> dict[str, dict[str, float]]:
    """Of each arm, by distance (or `draft`): ns of a step, the mean without the slowest twentieth."""
    path_of, flash_attn = PLACES[place]
    path, library = path_of(), open_library(manifest.find("cpu", "patched"))
    options = ContextOptions(
        n_ctx=DEPTH + N_PREDICT + 16, n_ubatch=512, n_threads=auto_threads(), flash_attn=flash_attn
    )
    sessions = {
        name: Session(
            library, path, SessionOptions(options, n_max=LIMIT if arm.mtp else None, ignore_eos=True)
        )
        for name, arm in ARMS.items()
    }
    tokenize = sessions[PLAIN].model.tokenize
    for session in sessions.values():
        session.run(prompt_tokens("factual", 256, tokenize, MEASURED_SEED - 1), 48)
    gc.disable()
    times: dict[str, dict[str, list[int]]] = {name: {} for name in ARMS}
    for text in range(first, first + texts):
        prompt = prompt_tokens(KIND, DEPTH, tokenize, MEASURED_SEED + text)
        for name, steps in _in_turns(sessions, prompt, text).items():
            for step in steps:
                times[name].setdefault(_group(step), []).append(step.ns)
    for session in sessions.values():
        session.close()
    return {
        name: {group: _trimmed(groups[group]) for group in _every_group() if group in groups}
        for name, groups in times.items()
    }


def _trimmed(values: list[int]) -> float:
    return plain_statistics.fmean(sorted(values)[: -(-len(values) * 19 // 20)])


def _group(step: Timed) -> str:
    if step.drafted:
        return DRAFT
    return next((_name(*group) for group in GROUPS if group[0] <= step.since <= group[1]), LATER)


def _every_group() -> tuple[str, ...]:
    return (DRAFT, *(_name(*group) for group in GROUPS), LATER)


def _name(first: int, last: int) -> str:
    return f"{first} to {last}" if last > first else f"{first}"


def _in_turns(sessions: dict[str, Session], prompt: list[int], seed: int) -> dict[str, list[Timed]]:
    steps: dict[str, list[Timed]] = {name: [] for name in ARMS}
    waiting = {name: _blocks(sessions[name], arm, prompt, steps[name]) for name, arm in ARMS.items()}
    chance = random.Random(seed)
    while waiting:
        for name in chance.sample(list(waiting), len(waiting)):
            if next(waiting[name], waiting) is waiting:
                del waiting[name]
    return steps


def _blocks(session: Session, arm: Arm, prompt: list[int], steps: list[Timed]) -> Iterator[None]:
    """Decode a text, and stop after each block of tokens."""
    decoder = session.decoder
    out = session.model.library.ffi.new("llama_token[]", LIMIT + 1)
    if isinstance(decoder, MtpDecoder):
        decoder.catch_up(CATCH_UP)
    last, pos = decoder.prefill(prompt), len(prompt)
    since, due, block = 0, EVERY, BLOCK
    while (done := pos - len(prompt)) < N_PREDICT:
        draft = 0
        if done >= due:
            due += EVERY
            draft = arm.draft
            if draft or arm.between:
                since = 1
            if arm.between:
                arm.between()
        begun = time.perf_counter_ns()
        step = decoder.step(last, pos, out, draft)
        steps.append(Timed(draft, since, time.perf_counter_ns() - begun))
        last, pos = out[step.n_tokens - 1], pos + step.n_tokens
        if not draft:
            since += since > 0
        if done >= block:
            block += BLOCK
            yield


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
