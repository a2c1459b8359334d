"""Questions with one right answer each in the form of the task of `factual`, and their answers."""

from __future__ import annotations

import random

from llamacpp_tools.workloads import factual

_HEAD = "Answer each question in one full sentence, without any remark before or after.\n"
_CONTINENTS = (
    ("the Nile", "Africa"), ("the Amazon", "South America"), ("the Danube", "Europe"), ("the Ganges", "Asia"),
    ("the Congo", "Africa"), ("the Mississippi", "North America"), ("the Rhine", "Europe"),
    ("the Mekong", "Asia"),
)  # fmt: skip
_PLANETS = (
    ("largest", "Jupiter"),
    ("smallest", "Mercury"),
    ("hottest", "Venus"),
    ("farthest out", "Neptune"),
)
# The answers to `factual.TASK`, in its order.
_TASK_ANSWERS = (
    ("The chemical symbol of potassium is K.", "Potassium has the chemical symbol K."),
    ("The capital of Norway is Oslo.", "Oslo is the capital of Norway."),
    ("There are 10080 minutes in a week.", "A week has 10080 minutes."),
    ("The Nile flows on the continent of Africa.", "The Nile flows in Africa."),
    ("The square of 31 is 961.",),
    (
        "The largest planet of the solar system is Jupiter.",
        "Jupiter is the largest planet of the solar system.",
    ),
)


def task_answers(rng: random.Random) -> str:
    """What goes on from `factual.TASK`, which ends with `1.`, closed by an empty line."""
    return _numbered([rng.choice(options) for options in _TASK_ANSWERS])[2:] + "\n"


def round_of_questions(rng: random.Random) -> str:
    """Six other questions under the same heading, and their answers, closed by an empty line."""
    pairs = [maker(rng) for maker in rng.sample(_MAKERS, len(_MAKERS))]
    asked = _numbered([question for question, _ in pairs])
    return f"{_HEAD}{asked}\n{_numbered([answer for _, answer in pairs])}\n"


def _numbered(lines: list[str]) -> str:
    return "".join(f"{number}. {line}\n" for number, line in enumerate(lines, 1))


def _symbol(rng: random.Random) -> tuple[str, str]:
    name, symbol = rng.choice(factual.ELEMENTS)
    return f"What is the chemical symbol of {name}?", f"The chemical symbol of {name} is {symbol}."


def _capital(rng: random.Random) -> tuple[str, str]:
    land, city = rng.choice(factual.CAPITALS)
    return f"Which city is the capital of {land}?", f"The capital of {land} is {city}."


def _unit(rng: random.Random) -> tuple[str, str]:
    large, small, factor = rng.choice(factual.UNITS)
    count = rng.randrange(2, 10)
    return (
        f"How many {small} are there in {count} {large}?",
        f"There are {count * factor} {small} in {count} {large}.",
    )


def _river(rng: random.Random) -> tuple[str, str]:
    river, continent = rng.choice(_CONTINENTS)
    told = f"{river[0].upper()}{river[1:]} flows on the continent of {continent}."
    return f"On which continent does {river} flow?", told


def _square(rng: random.Random) -> tuple[str, str]:
    number = rng.randrange(2, 40)
    return f"What is the square of {number}?", f"The square of {number} is {number * number}."


def _planet(rng: random.Random) -> tuple[str, str]:
    which, planet = rng.choice(_PLANETS)
    return (
        f"Which planet of the solar system is the {which}?",
        f"The {which} planet of the solar system is {planet}.",
    )


_MAKERS = (_symbol, _capital, _unit, _river, _square, _planet)
