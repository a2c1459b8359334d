"""Texts of one place that are decoded by every arm: plain decode, each fixed draft length, and one that steers itself.

One process holds a session for each arm. They generate the same texts, a block of tokens each in turns, so that
whatever slows the machine meets all of them. The first text of a process finds a controller that knows nothing, the
others one that has seen a text, as in a server. Another arm that steers itself had every length timed before the first
text (`Session.profile`), on another text. `draft_auto.py` runs this module for a few texts in a process of its own:

    python benchmarks/draft_arms.py '{"place": {…}, "first": 0, "texts": 3}'
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROOT

from llamacpp_tools.build import manifest
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.control import Chooser
from llamacpp_tools.engine.generate import Generation, Limits, Run
from llamacpp_tools.engine.native_control import NativeControl
from llamacpp_tools.engine.rehearsal import made_up
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.shelf import synthetic
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens
from llamacpp_tools.workloads.cut import TURN_TOKENS, Tokenize, context_tokens

LIMIT = 8
FIXED = (1, 2, 3, 5, 8)
PLAIN, AUTO, PROFILED = "plain", "auto", "profiled"
FIXED_ARMS = (PLAIN, *map(str, FIXED))
STEERED = (AUTO, PROFILED)
ARMS = (*FIXED_ARMS, *STEERED)
# What the miniature was not taught: the pages of this tree's own documents, from a place that the seed draws.
PAGES = "pages"
# What is profiled on, with a seed that no text of a place has.
PROFILE_KIND = "factual"
# Tokens that an arm generates before the next one has its turn: few beside what the machine's pace changes over, many
# beside the first, whose step finds the caches cold.
BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Place:
    """What is decoded.

    Attributes:
        model: `miniature`, or a preset of `llt model synth`.
        ballast: bytes of weights and KV width that the miniature gets.
        depth: tokens of the first prompt.
        n_predict: tokens of a text.
        kinds: of text, one for each turn; their answers share `n_predict`.
        chances: of a drafted token to be accepted, one for each part of a text whose acceptance is made up: the steps
            are real ones and take what they take, but what is accepted is not asked of the model. Empty otherwise.
        given: kinds of text, or `PAGES`, one for each part of a text that is given and goes on from one into the next:
            what is accepted is what the model's MTP block drafts right of it, looked up before. Empty otherwise.
    """

    model: str
    ballast: tuple[int, int]
    depth: int
    n_predict: int
    kinds: tuple[str, ...]
    chances: tuple[float, ...] = ()
    given: tuple[str, ...] = ()

    @property
    def parts(self) -> int:
        """Parts of a text between which what pays may change."""
        return len(self.chances or self.given or self.kinds)

    @property
    def path(self) -> Path:
        """The model's file."""
        return miniature(Ballast(*self.ballast)) if self.model == "miniature" else synthetic(self.model)

    def prompts(self, seed: int, tokenize: Tokenize) -> list[list[int]]:
        """The tokens before each turn. A text that is given goes on from its prompt, without a task between."""
        if self.given:
            return [self._beginning(tokenize, seed)[: self.depth]]
        return [
            prompt_tokens(kind, TURN_TOKENS if turn else self.depth, tokenize, MEASURED_SEED + seed)
            for turn, kind in enumerate(self.kinds)
        ]

    def runs(self, seed: int, session: Session, prompt: list[int]) -> tuple[int, ...]:
        """Accepted tokens from each token on where acceptance is made up, or the text given; empty otherwise."""
        part = self.n_predict / self.parts
        if self.given:
            return session.watch(session.fill(prompt), self.n_predict, given=self._text(seed, session)).runs
        chances = self.chances
        return tuple(
            made_up(
                lambda token, _: chances[int(token / part)], self.n_predict if chances else 0, seed, LIMIT
            )
        )

    def _text(self, seed: int, session: Session) -> list[int]:
        """What is given, with an end that the last drafts are held against. The first part goes on from the prompt."""
        tokenize = session.model.tokenize
        tokens = self._beginning(tokenize, seed)[self.depth :]
        for kind in self.given[1:]:
            tokens += _written(kind, self._part, tokenize, seed)
        return tokens

    @property
    def _part(self) -> int:
        return -(-(self.n_predict + LIMIT) // self.parts)

    def _beginning(self, tokenize: Tokenize, seed: int) -> list[int]:
        """The prompt of a text that is given and its first part, in one piece."""
        return _written(self.given[0], self.depth + self._part, tokenize, seed)


def _written(kind: str, count: int, tokenize: Tokenize, seed: int) -> list[int]:
    if kind != PAGES:
        return context_tokens(kind, count, tokenize, MEASURED_SEED + seed)
    tokens = tokenize("\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))))
    begin = random.Random(seed).randrange(len(tokens) - count)
    return tokens[begin : begin + count]


def measure(place: Place, first: int, texts: int) -> dict[str, Any]:
    """Some texts of one place: tokens per second of each arm, what the steered one did, whether the tokens agree."""
    n_ctx = place.depth + TURN_TOKENS * (len(place.kinds) - 1) + place.n_predict + 16
    options = ContextOptions(n_ctx=n_ctx, n_ubatch=512, n_threads=auto_threads(), flash_attn="off")
    library = open_library(manifest.find("cpu", "patched"))
    path = place.path
    sessions = {
        arm: Session(library, path, SessionOptions(options, n_max=_n_max(arm), ignore_eos=True))
        for arm in ARMS
    }
    controls = {arm: NativeControl(library, LIMIT) for arm in STEERED}
    tokenize = sessions[PLAIN].model.tokenize
    _once(sessions, tokenize)
    profile_ns = _profiled(sessions[PROFILED], place, controls[PROFILED])
    # As in `engine.generate.go_on`: there is nothing to find, and looking takes milliseconds of a step.
    gc.disable()
    tps: dict[str, list[float]] = {arm: [] for arm in ARMS}
    turn_ns = {arm: [0.0] * place.parts for arm in ARMS}
    did = {arm: Did() for arm in STEERED}
    tokens = {"texts": 0, "as plain decode": 0, "from a near tie on": 0, "otherwise": 0}
    for text in range(first, first + texts):
        prompts = place.prompts(text, tokenize)
        for control in controls.values():
            control.begin()
        runs = place.runs(text, sessions[str(LIMIT)], prompts[0])
        arms = {arm: Arm(arm, sessions[arm], controls.get(arm), runs) for arm in ARMS}
        done = _in_turns(arms, prompts, place.n_predict, text)
        for arm, turns in done.items():
            tps[arm].append(
                1e9 * sum(turn.n_stepped for turn in turns) / sum(turn.decode_ns for turn in turns)
            )
            for at, ns in enumerate(_token_ns(turns, place.parts)):
                turn_ns[arm][at] += ns
        for arm in STEERED:
            for turn in done[arm]:
                did[arm].add(turn)
        if not runs:
            for arm in STEERED:
                tokens["texts"] += 1
                tokens[_agree(done[PLAIN], done[arm])] += 1
    for session in sessions.values():
        session.close()
    return {
        "decode_tps": tps,
        "turn_ns": turn_ns,
        "tokens": tokens,
        "profile_ns": profile_ns,
        "did": {arm: each.told(controls[arm].own_ns) for arm, each in did.items()},
    }


@dataclasses.dataclass
class Did:
    """What an arm that steers itself did.

    Attributes:
        length_ns, why_ns: time by draft length and by reason.
        changes: of length.
    """

    length_ns: Counter[int] = dataclasses.field(default_factory=Counter)
    why_ns: Counter[int] = dataclasses.field(default_factory=Counter)
    changes: int = 0

    def add(self, turn: Generation) -> None:
        """A turn more."""
        self.changes += sum(a != b for a, b in itertools.pairwise(turn.step_drafted))
        for length, why, ns in zip(turn.step_drafted, turn.step_why, turn.step_ns, strict=True):
            self.length_ns[length] += ns
            self.why_ns[why] += ns

    def told(self, control_ns: int) -> dict[str, dict[Any, int]]:
        """All of it, and what its rules took."""
        other = {"control_ns": control_ns, "changes": self.changes}
        return {"length_ns": self.length_ns, "why_ns": self.why_ns, "other": other}


def _token_ns(turns: list[Generation], parts: int) -> list[float]:
    """ns of a token in each part of a text: its turns, or as many equal ones of its only turn."""
    if len(turns) == parts:
        return [turn.decode_ns / turn.n_stepped for turn in turns]
    (turn,) = turns
    ns, tokens, part = [0] * parts, [0] * parts, len(turn.tokens) / parts
    accepted = turn.step_accepted or (0,) * len(turn.step_ns)
    for count, step_ns in zip(accepted, turn.step_ns, strict=True):
        at = min(int(sum(tokens) / part), parts - 1)
        ns[at] += step_ns
        tokens[at] += count + 1
    return [a / b for a, b in zip(ns, tokens, strict=True)]


def _n_max(arm: str) -> int | None:
    return None if arm == PLAIN else LIMIT if arm in STEERED else int(arm)


class Arm:
    """One arm's way through a text, a block of tokens at a time."""

    def __init__(self, name: str, session: Session, control: Chooser | None, runs: tuple[int, ...]) -> None:
        """Nothing is generated yet."""
        self.session, self.control, self.n_max, self.runs = session, control, _n_max(name) or 0, runs
        self.done: list[Generation] = []

    def blocks(self, prompts: list[list[int]], n_predict: int) -> Iterator[None]:
        """Generate `n_predict` tokens, as many after each prompt, and stop after each block."""
        session, ffi, filled = self.session, self.session.model.library.ffi, None
        for prompt in prompts:
            filled = session.add(filled, self.done[-1], prompt) if filled else session.fill(prompt)
            yield
            limits = Limits(n_predict // len(prompts), self.n_max, runs=self.runs)
            run = Run(session.decoder, filled, limits, ffi, self.control)
            count = 0
            for made in run:
                count += len(made)
                if count >= BLOCK:
                    count -= BLOCK
                    yield
            self.done.append(run.done)
        yield


def _in_turns(
    arms: dict[str, Arm], prompts: list[list[int]], n_predict: int, first: int
) -> dict[str, list[Generation]]:
    waiting = {arm: each.blocks(prompts, n_predict) for arm, each in arms.items()}
    chance = random.Random(first)
    while waiting:
        # In an order that is never the same: an arm finds the processor's caches as the one before it left them.
        for arm in chance.sample(list(waiting), len(waiting)):
            if next(waiting[arm], waiting) is waiting:
                del waiting[arm]
    return {arm: each.done for arm, each in arms.items()}


def _once(sessions: dict[str, Session], tokenize: Any) -> None:
    """Every session's first decodes, which touch its memory for the first time."""
    prompt = prompt_tokens("factual", 256, tokenize, MEASURED_SEED - 1)
    for session in sessions.values():
        session.run(prompt, 48)


def _profiled(session: Session, place: Place, control: NativeControl) -> int:
    """Have every length timed at the place's depth on a text that is not the place's; the time that took, in ns."""
    prompt = prompt_tokens(PROFILE_KIND, place.depth, session.model.tokenize, MEASURED_SEED - 1)
    begun = time.perf_counter_ns()
    session.profile(prompt, control)
    return time.perf_counter_ns() - begun


def _agree(plain: list[Generation], auto: list[Generation]) -> str:
    for ours, theirs in zip(plain, auto, strict=True):
        if ours.tokens != theirs.tokens:
            both = zip(ours.tokens, theirs.tokens, strict=True)
            at = next(index for index, (a, b) in enumerate(both) if a != b)
            return "from a near tie on" if at in ours.ties else "otherwise"
    return "as plain decode"


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(measure(Place(**asked["place"]), asked["first"], asked["texts"])))
