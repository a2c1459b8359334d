"""Instructions, each with the short answer that was wanted, then one to be followed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import Grammar, generator, phrases
from llamacpp_tools.workloads.people import FIRST_NAMES, LAST_NAMES, PLACES

TASK = """

Instruction: Write a plan in numbered steps for moving a small library of 4,000 books to a house on the other
side of the river within one weekend, with twelve helpers and one van. Say who does what on which day, what
can go wrong and how the plan meets it, and finish with a list of what must be bought beforehand.

Answer:
"""

_EVENTS = phrases(
    """
    a concert in the park
    the yearly book sale
    a workshop on mending bicycles
    an evening of short plays
    the opening of the new bridge
    a walk along the old canal
    a meeting about the bus line
    the harvest supper
    a class for beginners in pottery
    a tournament for young chess players
    a lecture on bees
    the repair day of the toy library
    """
)
_BRING = phrases(
    """
    a warm coat
    your own cup
    something to write with
    a cushion for the bench
    a torch for the way home
    boots that may get wet
    one dish to share
    the ticket from last year
    a bag for what you take home
    an instrument if you play one
    """
)
_REASONS = phrases(
    """
    the boiler has to be replaced
    the road is closed for repairs
    two of our helpers are ill
    the storm has damaged the roof
    the hall was booked twice
    the speaker has missed the train
    the forecast promises heavy rain
    the keys have not been found
    the delivery of chairs is late
    the choir needs another rehearsal
    """
)
_FIXES = phrases(
    """
    we will use the school across the street
    we begin {few} days later at the same hour
    tickets keep their worth
    everyone will be told by letter
    the first part will take place outdoors
    a smaller group can be guided through at noon
    we ask {few} neighbours to lend us theirs
    the price is halved for all who come
    """
)
_TIPS = phrases(
    """
    start with the smallest of them
    let it rest for {few} hours before the next step
    write the date on each with a soft pencil
    keep the lid closed until it has cooled
    ask somebody to hold the other end
    check the level again after a day
    throw away whatever smells of damp
    use half of what the label says
    do not let it stand in the sun
    put the parts on a cloth in the order in which they came off
    measure twice, once in each direction
    leave a finger's breadth of room on all sides
    """
)
_JOBS = phrases(
    """
    store {n} seed potatoes over the winter
    clean a clock that has stood for {few} years
    oil a floor of {n} boards
    bind {few} notebooks by hand
    dry {n} apples without an oven
    set up a hive for {few} frames
    patch a tent with {few} holes
    sharpen {few} garden shears
    lay {n} bricks in a straight path
    restring {few} old rackets
    plant a hedge of {n} small beeches
    pack {n} glasses for a long journey
    """
)
_ADDED = (
    "One thing more: {tips}.",
    "Should that fail, {tips}.",
    "Those in a hurry can skip nothing here, but {tips} all the same.",
)

_PAIRS = (
    (
        "Write a notice of two sentences: {person} invites to {events} at {place} on day {n} of {year}.",
        "{person} invites everybody to {events}, to be held at {place} on day {n} of {year}. "
        "Please bring {bring} and {bring2}.",
    ),
    (
        "Tell the members politely that {events} cannot take place at {place} as planned, since {reasons}.",
        "Dear members, {events} at {place} cannot take place as planned, since {reasons}. Instead, {fixes}, "
        "and {fixes2}. Yours, {person}",
    ),
    (
        "Give three short hints to {person}, who wants to {jobs} and has {money} to spend.",
        "To {jobs}, {tips}. Then {tips2}. Last of all, {tips3}, and keep part of the {money} back in case.",
    ),
    (
        "Sum up in one line what {person} of {place} wrote about {events} in {year}.",
        "In {year} {person} of {place} praised {events} although {reasons}, and proposed that {fixes}.",
    ),
    (
        "Advise a beginner in {place} who is about to {jobs}.",
        "If you mean to {jobs}, {tips}; in {place}, where the air is moist, also {tips2}.",
    ),
    (
        "Say in one sentence what {person} needs for {events} with {n} guests at {place}.",
        "For {n} guests at {place} {person} needs benches, {few} helpers at the door and, in case {reasons}, "
        "{money} in reserve.",
    ),
)

SLOTS = {
    "events": _EVENTS,
    "bring": _BRING,
    "reasons": _REASONS,
    "fixes": _FIXES,
    "tips": _TIPS,
    "jobs": _JOBS,
    "place": PLACES,
    "person": tuple(f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES),
}


def chunks(seed: int) -> Iterator[str]:
    """One instruction with its answer after the other, none asked twice, for ever."""
    rng = generator("instruction", seed)
    grammar = Grammar(SLOTS)
    asked: set[str] = set()
    while True:
        question, answer = _pair(grammar, rng)
        if question not in asked:
            asked.add(question)
            yield f"Instruction: {question}\nAnswer: {answer}\n\n"


def _pair(grammar: Grammar, rng: random.Random) -> tuple[str, str]:
    asked, answered = rng.choice(_PAIRS)
    # What both halves speak of is drawn once; `{bring2}` and its like are the answer's own.
    bound = {name: rng.choice(SLOTS[name]) for name in ("events", "place", "person", "reasons")}
    job = grammar.fill("{jobs}", rng, {})
    bound["jobs"] = job[0].lower() + job[1:]
    bound |= {"year": str(rng.randrange(1900, 2024)), "n": str(rng.randrange(24, 300))}
    bound["money"] = f"{rng.randrange(11, 900)} crowns"
    answer = grammar.fill(answered, rng, bound)
    if "{tips" in answered:
        answer += " " + grammar.fill(rng.choice(_ADDED), rng, {})
    return grammar.fill(asked, rng, bound), answer
