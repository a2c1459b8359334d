"""Sentences from templates: `{slot}` is filled from a list of phrases, and no sentence comes twice.

A phrase may hold slots itself. `{place2}` draws from the same list as `{place}`, but never the same
phrase within one sentence. A bound slot (the person a paragraph is about) keeps its phrase.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SLOT = re.compile(r"\{([a-z_]+)(\d*)\}")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")
_TRIES = 200


def phrases(text: str) -> tuple[str, ...]:
    """The non-empty lines of `text`, each one phrase."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def generator(kind: str, seed: int) -> random.Random:
    """The random numbers of one kind of text: the same for the same seed on every machine."""
    return random.Random(f"{kind}:{seed}")


@dataclass
class Grammar:
    """Templates and the phrases that fill them.

    Attributes:
        slots: phrases by the name of their slot; numbers come from `{n}`, `{year}` and `{money}`.
        seen: the sentences given so far, so that none comes twice.
    """

    slots: Mapping[str, Sequence[str]]
    seen: set[str] = field(default_factory=set)

    def fresh(self, templates: Sequence[str], rng: random.Random, bound: Mapping[str, str]) -> str:
        """A sentence from one of `templates` that this grammar has not given before.

        Raises:
            RuntimeError: the templates are exhausted, which a kind's test would show.
        """
        for _ in range(_TRIES):
            text = self.fill(rng.choice(templates), rng, bound)
            if text not in self.seen:
                self.seen.add(text)
                return text
        raise RuntimeError("the templates of this text are exhausted")

    def fill(self, template: str, rng: random.Random, bound: Mapping[str, str]) -> str:
        """`template` with every slot filled, its first letter a capital, `a` as `an` before a vowel."""
        used: dict[str, set[str]] = {}
        for name, value in bound.items():
            used.setdefault(name, set()).add(value)

        def draw(match: re.Match[str]) -> str:
            name, number = match[1], match[2]
            if not number and name in bound:
                return bound[name]
            taken = used.setdefault(name, set())
            value = self._one(name, rng)
            for _ in range(_TRIES):
                if value not in taken:
                    break
                value = self._one(name, rng)
            taken.add(value)
            return value

        text = template
        while _SLOT.search(text):
            text = _SLOT.sub(draw, text)
        text = _BEFORE_VOWEL.sub(r"\1n ", text)
        return text[0].upper() + text[1:]

    def _one(self, name: str, rng: random.Random) -> str:
        if name == "n":
            return str(rng.randrange(12, 400))
        if name == "few":
            return rng.choice(("two", "three", "four", "five", "six", "seven", "eight", "nine"))
        if name == "year":
            return str(rng.randrange(1872, 1996))
        if name == "money":
            return f"{rng.randrange(3, 90) * 10 + rng.randrange(10)} crowns"
        return rng.choice(self.slots[name])
