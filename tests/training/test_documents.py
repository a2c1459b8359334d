import json
import random
import re

import pytest

from llamacpp_tools.workloads import MEASURED_SEED, prompt_text
from llamacpp_tools.workloads.registry import get, names
from training.answers import functions, plan, questions, thoughts
from training.documents import KINDS, document, text_seed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_chars", [300, 2_000, 20_000])
def test_a_document_is_about_as_long_as_asked(kind, n_chars):
    rng = random.Random(1)
    lengths = [len(document(kind, n_chars, "train", rng)) for _ in range(10)]
    assert min(lengths) >= 0.8 * n_chars
    assert sum(lengths) / 10 < 1.5 * n_chars + 4_000


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_plain_ascii(kind):
    text = document(kind, 30_000, "train", random.Random(2))
    assert text.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_training_validation_and_measured_texts_have_seeds_of_their_own():
    seeds = {
        split: {text_seed(split, random.Random(n)) for n in range(2_000)} for split in ("train", "validation")
    }
    assert not seeds["train"] & seeds["validation"]
    assert max(seeds["train"]) < min(seeds["validation"])
    assert min(seeds["train"]) > MEASURED_SEED


@pytest.mark.parametrize("kind", ["analysis", "narrative", "extraction", "instruction", "thinking"])
def test_no_measured_text_is_trained_on(kind):
    measured = set(re.findall(r"[^\n]{80,}", prompt_text(kind, 60_000).removesuffix(get(kind).task)))
    rng = random.Random(3)
    trained = "\n".join(document(kind, 60_000, "train", rng) for _ in range(5))
    assert not [line for line in measured if line in trained]


@pytest.mark.parametrize("kind", [name for name in names() if get(name).task])
def test_every_task_is_followed_by_something(kind):
    rng = random.Random(4)
    for _ in range(10):
        text = document(kind, 4_000, "train", rng)
        head, task, tail = text.partition(get(kind).task)
        assert task
        assert len(tail) > 100
        assert head or kind != "extraction"


def test_records_follow_the_orders_of_their_document():
    rng = random.Random(5)
    for _ in range(20):
        text = document("extraction", 5_000, "train", rng)
        context, _, tail = text.partition(get("extraction").task)
        records = [json.loads(line) for line in ('{"order":' + tail).splitlines()]
        assert records
        assert all(str(record["order"]) in context and record["address"] in context for record in records)
        assert [record["order"] for record in records] == sorted(record["order"] for record in records)


def test_a_question_in_a_recall_document_is_answered_as_the_note_said():
    text = document("recall", 12_000, "train", random.Random(6))
    noted = dict(re.findall(r"Note: the (.+?) is kept at (.+?)\.\n", text))
    answered = re.findall(r"Answer: the (.+?) is kept at (.+?)\.\n", text)
    assert len(answered) > 10
    assert all(noted[thing] == place for thing, place in answered)
    for thing, _ in answered:
        assert text.index(f"Note: the {thing} is") < text.index(f"where is the {thing} kept")


def test_the_logs_begin_on_many_days():
    rng = random.Random(7)
    days = {document("maintenance_log", 200, "train", rng)[:9] for _ in range(40)}
    assert len(days) > 5


def test_the_function_does_what_its_task_says():
    for seed in range(20):
        scope: dict[str, object] = {}
        exec(get("code").task.strip() + "\n" + functions.body(random.Random(seed)), scope)
        merge = scope["merge_overlapping"]
        assert merge([(5, 6), (1, 3), (2, 4), (4, 4)]) == [(1, 4), (5, 6)]
        assert merge([]) == []
        with pytest.raises(ValueError, match="ends before"):
            merge([(2, 1)])


def test_the_thoughts_end_in_the_right_answer():
    for seed in range(20):
        text = thoughts.thoughts(random.Random(seed))
        answer = text.split("\nAnswer: ")[1]
        # A quarter at 8, +1/12 an hour until 10, +7/36 after; +10/36 from 11 on with the outlet closed.
        assert "at 1 in the afternoon" in answer.replace("At 1", "at 1")
        assert "24 minutes past 12" in answer


def test_questions_and_answers_belong_together():
    for seed in range(30):
        text = questions.round_of_questions(random.Random(seed))
        asked, answered = (re.findall(r"^\d\. (.*)$", half, re.MULTILINE) for half in text.split("\n\n")[:2])
        assert len(asked) == len(answered) == 6
        for question, answer in zip(asked, answered, strict=True):
            if "square of" in question:
                number = int(re.search(r"\d+", question)[0])
                assert answer == f"The square of {number} is {number * number}."
        first = questions.task_answers(random.Random(seed))
        assert first.startswith(" ")
        assert len(re.findall(r"^\d\. ", first, re.MULTILINE)) == 5


def test_a_plan_counts_its_steps():
    text = plan.plan(random.Random(8))
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "What can go wrong:" in text
    assert "{" not in text
