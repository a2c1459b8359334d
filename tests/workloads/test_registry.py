import ast
import hashlib
import re

import pytest

from llamacpp_tools.workloads import MEASURED_SEED, distinct_word_ratio, names, prompt_text
from llamacpp_tools.workloads.registry import context_text, get

# 400,000 characters are about 80,000 tokens of a large model's vocabulary.
LONG = 400_000


def sentences(text):
    return [part for part in re.split(r"(?<=[.?])\s+|\n+", text) if len(part) > 10]


def test_the_kinds_of_the_contract_are_there():
    assert names() == (
        "maintenance_log",
        "analysis",
        "narrative",
        "code",
        "extraction",
        "factual",
        "thinking",
        "instruction",
    )


@pytest.mark.parametrize("name", names())
def test_text_is_plain_ascii_and_never_ends(name):
    text = context_text(name, LONG, MEASURED_SEED)
    assert len(text) >= LONG
    assert text.isascii()
    assert "{" not in text or name in ("code", "extraction")
    assert "  " not in text or name == "code"


@pytest.mark.parametrize("name", names())
def test_a_seed_decides_the_text_and_a_longer_one_only_adds(name):
    short = context_text(name, 5_000, 1)
    assert context_text(name, 9_000, 1).startswith(short)
    assert context_text(name, 5_000, 2) != short


@pytest.mark.parametrize("name", ["analysis", "narrative"])
def test_prose_says_nothing_twice(name):
    found = sentences(context_text(name, LONG, MEASURED_SEED))
    assert len(found) > 2_000
    assert len(set(found)) / len(found) > 0.995


def test_the_log_repeats_itself():
    text = context_text("maintenance_log", LONG, MEASURED_SEED)
    bodies = [line.split("] ", 1)[1] for line in text.splitlines()]
    assert len(set(bodies)) / len(bodies) < 0.01


def test_distinct_words_tell_prose_from_a_log():
    words = {name: " ".join(context_text(name, 4_000, 3).split()[:200]) for name in names()}
    assert distinct_word_ratio(words["narrative"]) > 0.55
    assert distinct_word_ratio(words["analysis"]) > 0.55
    assert distinct_word_ratio(words["maintenance_log"]) < 0.45


def test_code_is_valid_python_with_each_name_once():
    tree = ast.parse(context_text("code", LONG, MEASURED_SEED))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(functions) == len(set(functions)) > 500
    ast.parse(prompt_text("code", 5_000) + "    return spans\n")


def test_worked_problems_are_right():
    text = context_text("thinking", LONG, MEASURED_SEED)
    products = re.findall(r"(\d+) times (\d+) is (\d+)", text)
    assert len(products) > 500
    assert all(int(a) * int(b) == int(c) for a, b, c in products)
    assert not re.search(r"-\d", text)


def test_instructions_are_asked_once():
    asked = re.findall(r"^Instruction: (.*)$", context_text("instruction", LONG, MEASURED_SEED), re.MULTILINE)
    assert len(asked) == len(set(asked)) > 1_000


def test_orders_have_rising_numbers():
    numbers = [int(number) for number in re.findall(r"\b(\d{5,})\b", context_text("extraction", 50_000, 1))]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(numbers) > 200


@pytest.mark.parametrize("name", names())
def test_a_task_stands_at_the_end_whole(name):
    task = get(name).task
    assert prompt_text(name, 2_000).endswith(task)
    assert not task.endswith(" ")


# A changed text is another workload: figures measured before and after cannot be compared. Change a hash
# only together with the text, on purpose.
MEASURED = {
    "maintenance_log": "42be7a08f785a53c",
    "analysis": "be624ec3488e0e6a",
    "narrative": "d3c6c2d4471d3593",
    "code": "5dd2488811b29ad3",
    "extraction": "6c8e1b8bbcb6282b",
    "factual": "1ba9168df8110015",
    "thinking": "17f0702339801113",
    "instruction": "61f2a713c748c78d",
}


@pytest.mark.parametrize("name", names())
def test_the_measured_text_is_the_one_that_was_measured(name):
    text = prompt_text(name, 20_000, MEASURED_SEED)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == MEASURED[name]
