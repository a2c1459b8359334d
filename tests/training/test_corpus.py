from collections import Counter

import numpy as np
import pytest

from training import corpus as room
from training.corpus import MIXTURE, build_corpus, sample_texts
from training.documents import KINDS
from training.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(train_tokenizer(sample_texts(1, 120_000), 512), seed=9)


def test_the_shares_are_of_the_kinds_and_make_one():
    assert tuple(MIXTURE) != () and set(MIXTURE) == set(KINDS)
    assert sum(MIXTURE.values()) == pytest.approx(1.0)


def test_a_step_reads_the_same_rows_each_time_and_others_than_the_next(corpus):
    rows = corpus.rows("train", 12, 4, 256)
    assert rows.shape == (4, 256)
    assert np.array_equal(rows, corpus.rows("train", 12, 4, 256))
    assert not np.array_equal(rows, corpus.rows("train", 13, 4, 256))
    assert not np.array_equal(rows, corpus.rows("validation", 12, 4, 256))
    assert len({row.tobytes() for row in rows}) == 4


def test_workers_divide_the_rows_of_a_step(corpus):
    whole = corpus.rows("train", 3, 4, 128)
    halves = [corpus.rows("train", 3, 2, 128, first=first) for first in (0, 2)]
    assert np.array_equal(whole, np.concatenate(halves))


def test_rows_hold_no_muted_token_and_an_end_between_documents(corpus):
    rows = corpus.rows("train", 5, 8, 1024)
    assert not set(rows.flatten().tolist()) & set(corpus.tokenizer.muted)
    assert 4 <= int((rows == corpus.tokenizer.end_id).sum()) < 80


def test_kinds_come_up_as_often_as_they_should(corpus, monkeypatch):
    drawn = Counter()
    real = room.document

    def noted(kind, n_chars, split, rng):
        drawn[kind] += 1
        return real(kind, n_chars, split, rng)

    monkeypatch.setattr(room, "document", noted)
    corpus.rows("train", 1, 300, 512)
    for kind, share in MIXTURE.items():
        assert drawn[kind] / drawn.total() == pytest.approx(share, abs=0.05), kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_one_kind_has_exactly_its_length(corpus, kind):
    row = corpus.row_of(kind, "validation", "a", 700)
    assert len(row) == 700
    assert row == corpus.row_of(kind, "validation", "a", 700)
    assert row != corpus.row_of(kind, "validation", "b", 700)
