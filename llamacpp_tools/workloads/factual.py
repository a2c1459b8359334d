"""True statements that can be checked, then questions with one right answer each.

Weekdays are computed with the Gregorian calendar, products and squares by arithmetic, the rest comes from
short tables of common knowledge.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import generator

TASK = """

Answer each question in one full sentence, without any remark before or after.
1. What is the chemical symbol of potassium?
2. Which city is the capital of Norway?
3. How many minutes are there in a week?
4. On which continent does the Nile flow?
5. What is the square of 31?
6. Which planet of the solar system is the largest?

1."""

ELEMENTS = (
    ("hydrogen", "H"), ("helium", "He"), ("lithium", "Li"), ("beryllium", "Be"), ("boron", "B"),
    ("carbon", "C"), ("nitrogen", "N"), ("oxygen", "O"), ("fluorine", "F"), ("neon", "Ne"),
    ("sodium", "Na"), ("magnesium", "Mg"), ("aluminium", "Al"), ("silicon", "Si"), ("phosphorus", "P"),
    ("sulfur", "S"), ("chlorine", "Cl"), ("argon", "Ar"), ("potassium", "K"), ("calcium", "Ca"),
    ("scandium", "Sc"), ("titanium", "Ti"), ("vanadium", "V"), ("chromium", "Cr"), ("manganese", "Mn"),
    ("iron", "Fe"), ("cobalt", "Co"), ("nickel", "Ni"), ("copper", "Cu"), ("zinc", "Zn"),
)  # fmt: skip
CAPITALS = (
    ("Austria", "Vienna"), ("Belgium", "Brussels"), ("Bulgaria", "Sofia"), ("Canada", "Ottawa"),
    ("Chile", "Santiago"), ("Croatia", "Zagreb"), ("Cuba", "Havana"), ("Denmark", "Copenhagen"),
    ("Egypt", "Cairo"), ("Estonia", "Tallinn"), ("Finland", "Helsinki"), ("France", "Paris"),
    ("Ghana", "Accra"), ("Greece", "Athens"), ("Hungary", "Budapest"), ("Iceland", "Reykjavik"),
    ("Ireland", "Dublin"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Kenya", "Nairobi"),
    ("Latvia", "Riga"), ("Mexico", "Mexico City"), ("Morocco", "Rabat"), ("Nepal", "Kathmandu"),
    ("Norway", "Oslo"), ("Peru", "Lima"), ("Poland", "Warsaw"), ("Portugal", "Lisbon"),
    ("Spain", "Madrid"), ("Sweden", "Stockholm"), ("Thailand", "Bangkok"), ("Uruguay", "Montevideo"),
)  # fmt: skip
UNITS = (
    ("kilometres", "metres", 1000), ("hours", "minutes", 60), ("days", "hours", 24), ("weeks", "days", 7),
    ("kilograms", "grams", 1000), ("metres", "centimetres", 100), ("litres", "millilitres", 1000),
    ("minutes", "seconds", 60), ("dozens", "pieces", 12), ("feet", "inches", 12),
    ("tonnes", "kilograms", 1000),
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip


def chunks(seed: int) -> Iterator[str]:
    """A paragraph of six statements of different kinds after the other, for ever."""
    rng = generator("factual", seed)
    makers = (_weekday, _conversion, _product, _element, _capital, _difference)
    while True:
        order = rng.sample(makers, len(makers))
        yield " ".join(make(rng) for make in order) + "\n\n"


def _date(rng: random.Random) -> datetime.date:
    return datetime.date(1800, 1, 1) + datetime.timedelta(days=rng.randrange(250 * 365))


def _spoken(day: datetime.date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _weekday(rng: random.Random) -> str:
    day = _date(rng)
    return f"In the Gregorian calendar {_spoken(day)} falls on a {_WEEKDAYS[day.weekday()]}."


def _difference(rng: random.Random) -> str:
    day, days = _date(rng), rng.randrange(20, 900)
    later = day + datetime.timedelta(days=days)
    return f"The day {days} days after {_spoken(day)} is {_spoken(later)}."


def _conversion(rng: random.Random) -> str:
    large, small, factor = rng.choice(UNITS)
    count = rng.randrange(2, 2000)
    return f"There are {count * factor} {small} in {count} {large}."


def _product(rng: random.Random) -> str:
    a, b = rng.randrange(11, 999), rng.randrange(11, 999)
    return f"The product of {a} and {b} is {a * b}, and their sum is {a + b}."


def _element(rng: random.Random) -> str:
    (a, symbol_a), (b, symbol_b) = rng.sample(ELEMENTS, 2)
    number_a, number_b = ELEMENTS.index((a, symbol_a)) + 1, ELEMENTS.index((b, symbol_b)) + 1
    lighter = a if number_a < number_b else b
    return (
        f"Of the elements {a} ({symbol_a}, atomic number {number_a}) and {b} ({symbol_b}, atomic number "
        f"{number_b}), {lighter} has fewer protons."
    )


def _capital(rng: random.Random) -> str:
    (a, city_a), (b, city_b), (c, city_c) = rng.sample(CAPITALS, 3)
    return f"{city_a} is the capital of {a}, {city_b} that of {b}, and {city_c} that of {c}."
