"""Long-range facts: where things are kept, named early and asked for late, with other text between.

A window that is shorter than the distance hides the fact from a windowed layer, so the share of questions
that are still answered tells what a recipe costs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llamacpp_tools.errors import BadInput
from llamacpp_tools.workloads.cut import Tokenize, context_tokens
from llamacpp_tools.workloads.grammar import generator
from llamacpp_tools.workloads.people import PLACES

COLOURS = (
    "red", "blue", "green", "yellow", "white", "black", "grey", "brown", "silver", "golden", "purple", "orange",
)  # fmt: skip
OBJECTS = (
    "lantern", "ledger", "compass", "kettle", "ladder", "violin", "anchor", "barrel", "basket", "mirror",
    "saddle", "candle", "hammer", "flag", "drum", "chest", "clock", "globe", "rope", "map", "bell", "coat",
    "boat", "key",
)  # fmt: skip
FACTS_PER_CASE = 6


@dataclass(frozen=True)
class Fact:
    """A thing and the place where it is kept."""

    thing: str
    place: str

    @property
    def statement(self) -> str:
        """The line that names it."""
        return f"Note: the {self.thing} is kept at {self.place}.\n"

    @property
    def question(self) -> str:
        """The lines that ask for it, up to where the place must follow."""
        return f"Question: where is the {self.thing} kept?\nAnswer: the {self.thing} is kept at"

    @property
    def answer(self) -> str:
        """What must follow the question."""
        return f" {self.place}.\n"

    def answered(self, text: str) -> bool:
        """Whether `text`, as generated after the question, names the place first."""
        return text.startswith(f" {self.place}") and not text[1 + len(self.place) :][:1].isalpha()


@dataclass(frozen=True)
class Case:
    """Facts that stand together at the beginning, and the one that is asked for at the end.

    The other facts are there so that no answer can be right by being the only place named.
    """

    facts: tuple[Fact, ...]
    asked: Fact

    @property
    def opening(self) -> str:
        """The facts, one a line, and an empty line."""
        return "".join(fact.statement for fact in self.facts) + "\n"

    @property
    def closing(self) -> str:
        """An empty line and the question."""
        return "\n\n" + self.asked.question


def cases(seed: int, n_facts: int = FACTS_PER_CASE) -> Iterator[Case]:
    """One case after the other, for ever; within a case no thing and no place comes twice."""
    rng = generator("recall", seed)
    while True:
        facts = tuple(draw_facts(rng, n_facts))
        yield Case(facts, rng.choice(facts))


def draw_facts(rng: random.Random, count: int, taken: Sequence[Fact] = ()) -> list[Fact]:
    """`count` facts about things that `taken` does not hold, at places that differ from each other.

    Raises:
        ValueError: there are fewer things or places than asked for.
    """
    known = {fact.thing for fact in taken}
    things = [f"{colour} {thing}" for colour in COLOURS for thing in OBJECTS]
    free = [thing for thing in things if thing not in known]
    return [
        Fact(thing, place)
        for thing, place in zip(rng.sample(free, count), rng.sample(PLACES, count), strict=True)
    ]


def recall_tokens(case: Case, filler: str, depth: int, tokenize: Tokenize, seed: int) -> list[int]:
    """A prompt of exactly `depth` tokens: the facts, context of the kind `filler`, the question.

    Args:
        case: what is named and asked.
        filler: the kind of text between, a workload's name.
        depth: tokens of the whole prompt.
        tokenize: the model's tokenizer, adding no special tokens of its own.
        seed: which filler text.

    Raises:
        BadInput: the depth leaves no room for facts and question.
    """
    head, tail = tokenize(case.opening), tokenize(case.closing)
    room = depth - len(head) - len(tail)
    if room < 0:
        raise BadInput(
            f"the depth {depth} is too small for a recall case, which takes {len(head) + len(tail)} tokens"
        )
    return head + context_tokens(filler, room, tokenize, seed) + tail
