"""Essays that follow the task of `analysis`: explanations, evidence, an objection, advice."""

from __future__ import annotations

import random

from llamacpp_tools.workloads.analysis import SLOTS
from llamacpp_tools.workloads.grammar import Grammar

_OPENINGS = (
    "The notes invite an easy answer, and the easy answer is wrong.",
    "Most of what lasts in these towns was never meant to last, and much that was meant to last is gone.",
    "It is tempting to read the notes as a list of lucky and unlucky towns.",
    "Common undertakings rarely end for the reason that is written in their minutes.",
    "Between {org} and {org2} lies no great difference of purpose, and yet {result}.",
    "What the notes suggest is less a rule than a quarrel between several rules.",
)
_FRAMES = (
    "At least three explanations compete.",
    "Three accounts can be given of it, and they do not agree.",
    "Before any advice is given, three explanations have to be set against each other.",
)
_EXPLANATIONS = (
    "The {nth} explanation is {theme}: where {org} {did}, {result}, and nobody had to be persuaded.",
    "The {nth} points to {theme}, since {result} wherever {org} {did} in time.",
    "The {nth} is {theme}, for {observed}, and that alone can carry {org} through {few} bad years.",
    "The {nth} holds that {theme} decides: {group} {reaction} when it is missing, and {result}.",
    "The {nth} begins with {theme} and ends with money, because {cost} must be paid whether or not {result}.",
)
_SUPPORTS = (
    "That would explain why {result}, although {reserve}.",
    "It fits the remark that {observed}.",
    "On this view {org} did well when it {did}, and badly when it {did2}.",
    "Those who believe it like to add that {said}.",
    "It says little, however, about places where {observed}.",
    "The {group} would not have put it so, but they {reaction} all the same.",
)
_EVIDENCE = (
    "To tell them apart one would have to know whether {question}.",
    "Accounts of {cost} over {few} years would separate the first from the second.",
    "If the {group} had been asked before {org} {did}, we might know whether {question}.",
    "A town in which {observed}, and where nevertheless {result}, would refute it.",
    "The lists of members, read year by year, would show whether {question}.",
)
_OBJECTIONS = (
    "I find the {ordinal} the most convincing, and the strongest objection to it is that {reserve}.",
    "Against the {ordinal}, which I hold to be nearest to the truth, it must be said that {observed}.",
    "The {ordinal} persuades me most; its weak point is that nobody can say whether {question}.",
)
_REPLIES = (
    "The objection has weight, but it explains one failure and not the {few} others.",
    "That may be so, and yet {result}.",
    "An answer is possible: {said}, which is hardly what one says of a lost cause.",
)
_ADVICE = (
    "A council that wants to act within a year should first publish what {cost} really costs.",
    "Let the council name {few} {group} who may see the books at any time.",
    "It should lend {org} a room for the winter and ask for a report in {month}.",
    "Nothing should be built before it is known whether {question}.",
    "Money for {cost} should be given for one year only, and in the open.",
    "In {month} the members should be asked whether they would join again, and the answer should be read aloud.",
)
_CLOSINGS = (
    "More than that no town can promise, and less would not be worth the paper.",
    "The rest is patience, and the notes show how much of it there was.",
    "None of this needs a hero, and that is the best that can be said for it.",
)
_THEMES = (
    "trust", "habit", "a clear rule", "the size of the beginning", "the person who keeps the key",
    "the fear of being laughed at", "distance", "a reserve of money", "the open book", "a common enemy",
    "the warmth of the room", "the right to leave",
)  # fmt: skip


def essay(rng: random.Random, n_paragraphs: int = 6) -> str:
    """An essay of about `n_paragraphs` paragraphs, without the heading, closed by an empty line."""
    grammar = Grammar(SLOTS | {"theme": _THEMES, "ordinal": ("first", "second", "third")})
    bound = {"org": rng.choice(SLOTS["org"]), "group": rng.choice(SLOTS["group"])}

    def say(*templates: tuple[str, ...]) -> str:
        return " ".join(grammar.fresh(options, rng, bound) for options in templates)

    paragraphs = [say(_OPENINGS, _SUPPORTS, _FRAMES)]
    for nth in ("first", "second", "third"):
        named = tuple(text.replace("{nth}", nth) for text in _EXPLANATIONS)
        paragraphs.append(say(named, _SUPPORTS, _SUPPORTS))
    paragraphs.append(say(_EVIDENCE, _EVIDENCE))
    paragraphs.append(say(_OBJECTIONS, _SUPPORTS, _REPLIES))
    while len(paragraphs) < n_paragraphs:
        paragraphs.append(say(_EVIDENCE, _SUPPORTS, _SUPPORTS))
    paragraphs.append(say(_ADVICE, _ADVICE, _ADVICE, _CLOSINGS))
    return "\n\n".join(paragraphs) + "\n\n"
