import itertools

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.workloads.recall import COLOURS, OBJECTS, Fact, cases, draw_facts, recall_tokens


def words(text):
    """A tokenizer for tests: one token a character."""
    return [ord(letter) for letter in text]


def text_of(tokens):
    return "".join(map(chr, tokens))


def test_a_case_names_each_thing_and_place_once_and_asks_for_one():
    for case in itertools.islice(cases(7), 50):
        assert len({fact.thing for fact in case.facts}) == len({fact.place for fact in case.facts}) == 6
        assert case.asked in case.facts
        assert case.opening.count(case.asked.statement) == 1
        assert case.asked.place not in case.closing


def test_a_seed_decides_the_cases():
    first, again, other = (list(itertools.islice(cases(seed), 5)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("depth", [600, 4_321])
def test_a_prompt_has_the_depth_the_facts_first_and_the_question_last(depth):
    case = next(cases(3))
    text = text_of(recall_tokens(case, "narrative", depth, words, seed=5))
    assert len(text) == depth
    assert text.startswith(case.opening)
    assert text.endswith(case.closing)
    assert text.count(case.asked.thing) == 3


def test_a_depth_without_room_is_refused():
    with pytest.raises(BadInput, match="too small for a recall case"):
        recall_tokens(next(cases(3)), "narrative", 20, words, seed=5)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (" Dunmere.\n", True),
        (" Dunmere", True),
        (" Dunmere and", True),
        (" Dunmeres.", False),
        ("Dunmere.", False),
        (" Oakhurst.\n", False),
        ("", False),
    ],
)
def test_only_the_place_named_first_counts(said, right):
    assert Fact("red drum", "Dunmere").answered(said) is right


def test_an_own_answer_is_right():
    fact = Fact("blue bell", "Old Harbour")
    assert fact.answered(fact.answer)


def test_facts_drawn_later_are_about_other_things():
    import random

    rng, known = random.Random(1), []
    for _ in range(20):
        known += draw_facts(rng, 6, known)
    assert len({fact.thing for fact in known}) == 120 < len(COLOURS) * len(OBJECTS)
