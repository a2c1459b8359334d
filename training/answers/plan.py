"""Plans in numbered steps that follow the task of `instruction`."""

from __future__ import annotations

import random

from llamacpp_tools.workloads.grammar import Grammar, phrases
from llamacpp_tools.workloads.people import FIRST_NAMES

_STEPS = phrases(
    """
    {name} and {name2} pack the shelves of {section} into {box} and number each one.
    The van takes {n} boxes across the river while {name} keeps the list at the door.
    {name} drives, {name2} rides along and {name3} waits on the other side with the keys.
    {few} helpers carry the boxes of {section} up the stairs and set them down by number.
    {name} checks the numbers against the list and tells {name2} what is missing.
    {name} cleans the empty shelves while {name2} takes them apart.
    The shelves are put up again by {name} and {name2} before any box is opened.
    {name} sets out bread and tea for everybody at {hour}, and nobody works on during the break.
    The books of {section} go back in the order of the numbers, {name} reading them out.
    {name} walks through the old house with {name2} and looks into every corner.
    {name} locks the old house at {hour} and brings the key to {name2}.
    {name}, who knows the catalogue, puts {section} in order with the help of {name2}.
    """
)
_RISKS = phrases(
    """
    If it rains, {sheet} is laid over the boxes and the van drives up to the door.
    If the van breaks down, {name} asks the neighbours for a cart and {few} boxes go at a time.
    If a helper falls ill, {name} takes the place and the break is moved to {hour}.
    If the bridge is closed, the way by the mill is taken, which costs {few} more minutes a trip.
    If a box is lost, its number shows on the list what was in it, and {name} goes back for it.
    If the stairs are too narrow, the boxes are handed on from one helper to the next.
    If the work takes longer, {section} stays packed until the next weekend.
    """
)
_BUYS = (
    "{n} boxes of one size", "{few} rolls of tape", "labels with numbers", "{few} pairs of gloves", "rope",
    "a sheet against rain", "bread, cheese and tea", "pencils and a long list", "a lamp for the stairs",
    "cloths and soap", "fuel for the van", "{few} wedges for the doors",
)  # fmt: skip
_SLOTS = {
    "name": FIRST_NAMES,
    "section": ("the novels", "the maps", "the atlases", "the poems", "the histories", "the travels",
                "the children's books", "the newspapers", "the dictionaries", "the plays"),
    "box": ("flat boxes", "strong boxes", "small boxes", "fruit boxes"),
    "sheet": ("a sheet", "an old sail", "a cloth", "a tarpaulin"),
    "hour": ("eight", "nine", "ten", "noon", "two", "three", "five", "six"),
}  # fmt: skip
_DAYS = ("Friday evening", "Saturday morning", "Saturday afternoon", "Sunday morning", "Sunday afternoon")


def plan(rng: random.Random) -> str:
    """A plan by day in numbered steps, what can go wrong, and a list of what to buy, closed by an empty line."""
    grammar = Grammar(_SLOTS)
    lines: list[str] = []
    number = 1
    for day in _DAYS[rng.randrange(2) :]:
        lines.append(f"{day}:")
        for template in rng.sample(_STEPS, rng.randrange(2, 5)):
            lines.append(f"{number}. {grammar.fresh((template,), rng, {})}")
            number += 1
        lines.append("")
    lines.append("What can go wrong:")
    lines += [
        f"- {grammar.fresh((template,), rng, {})}" for template in rng.sample(_RISKS, rng.randrange(3, 6))
    ]
    lines += ["", "To buy beforehand:"]
    lines += [f"- {grammar.fill(text, rng, {}).lower()}" for text in rng.sample(_BUYS, rng.randrange(5, 9))]
    return "\n".join(lines) + "\n\n"
