"""The synthetic vocabulary, read with a byte-pair encoder written here from the format's description."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.models.vocab import MIN_TOKENS, SPECIALS, TOKEN_UNUSED, Vocab, build_vocab, byte_letters

VOCAB = build_vocab()


def encode(text: str, vocab: Vocab = VOCAB) -> list[int]:
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(vocab.merges)}
    letters = byte_letters()
    symbols = [letters[byte] for byte in text.encode()]
    while pairs := [(ranks[p], i) for i, p in enumerate(pairwise(symbols)) if p in ranks]:
        _, at = min(pairs)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return [vocab.tokens.index(symbol) for symbol in symbols]


def decode(ids: list[int], vocab: Vocab = VOCAB) -> bytes:
    byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    return bytes(byte_of[letter] for token in ids for letter in vocab.tokens[token])


@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    assert decode(encode(text)).decode() == text


def test_every_id_is_one_token_and_no_two_are_alike() -> None:
    assert len(VOCAB.tokens) == len(VOCAB.types) == len(set(VOCAB.tokens)) == MIN_TOKENS


def test_each_merge_joins_tokens_into_a_token() -> None:
    for merge in VOCAB.merges:
        left, right = merge.split(" ")
        assert {left, right, left + right} <= set(VOCAB.tokens)


@pytest.mark.parametrize("word", [" the", " error", " server", " pressure", " memory"])
def test_common_words_are_one_token(word: str) -> None:
    assert len(encode(word)) == 1


def test_what_may_be_spoken_is_ascii_text() -> None:
    assert len(VOCAB.speakable) > 100
    assert all(decode([token]).isascii() for token in VOCAB.speakable)
    specials = {VOCAB.bos_id, VOCAB.eos_id, VOCAB.pad_id}
    assert {VOCAB.tokens[token] for token in specials} == set(SPECIALS)
    assert not specials & set(VOCAB.speakable)


def test_a_larger_vocabulary_keeps_the_small_ones_ids() -> None:
    larger = build_vocab(1000)
    assert larger.tokens[:MIN_TOKENS] == VOCAB.tokens
    assert set(larger.types[MIN_TOKENS:]) == {TOKEN_UNUSED}
    assert len(set(larger.tokens)) == 1000


def test_a_smaller_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="512"):
        build_vocab(511)
