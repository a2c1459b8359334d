from __future__ import annotations

import random
import re

import pytest

from training.drills import drill


@pytest.mark.parametrize("longest", [1, 4, 30])
def test_a_list_is_told_again_word_for_word(longest: int) -> None:
    text = drill(20_000, random.Random(1), longest)
    told = re.findall(r"^((?:List|Items|Names|Entries|Words): [^\n]+\n)\1", text, re.MULTILINE)
    assert len(told) > 20
    assert max(line.count(", ") + line.count("; ") for line in told) < longest


def test_each_question_has_the_answer_that_was_noted() -> None:
    text = drill(40_000, random.Random(2))
    noted: dict[str, str] = {}
    asked = 0
    for line in text.splitlines():
        if found := re.match(r"Note: the (.+) is kept at (.+)\.$", line):
            noted[found[1]] = found[2]
        elif found := re.match(r"Answer: the (.+) is kept at (.+)\.$", line):
            asked += 1
            assert noted[found[1]] == found[2]
    assert asked > 50


def test_a_drill_is_as_long_as_asked_and_seeded() -> None:
    assert len(drill(5000, random.Random(3))) >= 5000
    assert drill(5000, random.Random(3)) == drill(5000, random.Random(3))
    assert drill(5000, random.Random(3)) != drill(5000, random.Random(4))
