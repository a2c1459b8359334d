"""Word problems worked out step by step, then one to be worked out at length.

Every worked solution is computed, so the reasoning that is shown is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import generator
from llamacpp_tools.workloads.people import FIRST_NAMES, PLACES

TASK = """

Problem: A water tank at Reedham has two inlets and one outlet. The first inlet alone fills it in 6 hours,
the second alone in 9 hours, and the full outlet alone empties it in 12 hours. The tank is a quarter full at
8 in the morning, when the first inlet and the outlet are opened; the second inlet is opened at 10. When is
the tank full, and how would the answer change if the outlet were closed at 11?

Think aloud before you answer: try an approach, check each step, go back where something looks wrong, and
give the answer only when two different ways agree.

Thoughts:"""

_GOODS = (
    "apples", "candles", "tiles", "notebooks", "bolts", "jars", "bricks", "tickets", "ropes", "lamps",
    "plates", "ribbons", "crates", "pencils", "bottles", "planks",
)  # fmt: skip


def chunks(seed: int) -> Iterator[str]:
    """One problem with its worked solution after the other, for ever."""
    rng = generator("thinking", seed)
    makers = (_stock, _journey, _sharing, _saving, _work)
    while True:
        yield rng.choice(makers)(rng) + "\n\n"


def _stock(rng: random.Random) -> str:
    name, goods, place = rng.choice(FIRST_NAMES), rng.choice(_GOODS), rng.choice(PLACES)
    crates, each, sold, price = (
        rng.randrange(4, 60),
        rng.randrange(6, 48),
        rng.randrange(10, 24),
        rng.randrange(2, 30),
    )
    total, left = crates * each, crates * each - sold
    return (
        f"Problem: {name} of {place} receives {crates} crates with {each} {goods} in each, sells {sold} "
        f"of them and wants {price} crowns apiece for the rest. What will the rest bring?\n"
        f"Thoughts: First the whole stock: {crates} times {each} is {total}. After the sale {total} less "
        f"{sold} leaves {left}. A check backwards: {left} and {sold} make {total} again, so nothing was "
        f"lost. Each of the {left} brings {price} crowns, and {left} times {price} is "
        f"{left * price}.\n"
        f"Answer: {left * price} crowns."
    )


def _journey(rng: random.Random) -> str:
    first, second = rng.sample(PLACES, 2)
    speed, hours, rest = rng.randrange(8, 90), rng.randrange(2, 12), rng.randrange(10, 55)
    distance, minutes = speed * hours, hours * 60 + rest
    return (
        f"Problem: {first} and {second} lie {distance} kilometres apart. A cart keeps to {speed} "
        f"kilometres an hour and rests once for {rest} minutes. How many minutes does the way "
        "take?\n"
        f"Thoughts: Without the rest the time is {distance} over {speed}, which is {hours} hours, as "
        f"{speed} times {hours} gives {distance}. In minutes that is {hours} times 60, so {hours * 60}. "
        f"The rest comes on top: {hours * 60} and {rest} are {minutes}.\n"
        f"Answer: {minutes} minutes."
    )


def _sharing(rng: random.Random) -> str:
    a, b, c = rng.sample(FIRST_NAMES, 3)
    unit, p, q, r = rng.randrange(7, 240), rng.randrange(1, 6), rng.randrange(2, 9), rng.randrange(1, 7)
    parts, total = p + q + r, unit * (p + q + r)
    return (
        f"Problem: {a}, {b} and {c} share {total} crowns in the proportion {p} to {q} to {r}. What does "
        "each receive?\n"
        f"Thoughts: There are {p} and {q} and {r}, so {parts} parts. One part is {total} over {parts}, "
        f"which is {unit}; to be sure, {unit} times {parts} is {total}. Then {a} has {p} parts, "
        f"{p * unit}; {b} has {q}, {q * unit}; {c} has {r}, {r * unit}. Together {p * unit + q * unit} and "
        f"{r * unit} make {total}.\n"
        f"Answer: {a} {p * unit}, {b} {q * unit}, {c} {r * unit} crowns."
    )


def _saving(rng: random.Random) -> str:
    name = rng.choice(FIRST_NAMES)
    start, monthly, months, spent = (
        rng.randrange(20, 700),
        rng.randrange(5, 95),
        rng.randrange(4, 30),
        rng.randrange(5, 20),
    )
    put_in = monthly * months
    return (
        f"Problem: {name} has {start} crowns, puts {monthly} aside each month for {months} months and "
        f"then spends {spent}. How much is left?\n"
        f"Thoughts: I could add month by month, but {monthly} times {months} is quicker: {put_in}. With "
        f"what was there that makes {start + put_in}. Now the {spent} go off, which leaves "
        f"{start + put_in - spent}. The other order, {start} less {spent} and then {put_in} more, gives the "
        "same.\n"
        f"Answer: {start + put_in - spent} crowns."
    )


def _work(rng: random.Random) -> str:
    goods, place = rng.choice(_GOODS), rng.choice(PLACES)
    people, rate, days = rng.randrange(3, 20), rng.randrange(4, 40), rng.randrange(3, 25)
    total = people * rate * days
    return (
        f"Problem: At {place} {people} people make {total} {goods} in {days} days, all at the same pace. "
        "How many does one person make in a day?\n"
        f"Thoughts: In one day all of them make {total} over {days}, that is {total // days}. Divided "
        f"among {people}, each makes {rate}. To check: {rate} times {people} is {rate * people}, and that "
        f"times {days} is {total}, as it should be.\n"
        f"Answer: {rate} {goods} a day."
    )
