import random

import pytest

from llamacpp_tools.models.vocab import SPECIALS, byte_letters
from llamacpp_tools.workloads import names, prompt_text
from training.corpus import sample_texts
from training.tokenizer import load_tokenizer, split, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(sample_texts(1, 120_000), 512)


@pytest.mark.parametrize("name", names())
def test_text_comes_back_as_it_was(tokenizer, name):
    text = prompt_text(name, 12_000)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) < 0.7 * len(text)
    assert not set(ids) & set(tokenizer.muted)


def test_pieces_joined_are_the_text():
    rng = random.Random(1)
    for _ in range(200):
        text = "".join(rng.choices("ab Z09.,'\"\n\t (){}[]:-_sStTdD", k=60))
        assert "".join(split(text)) == text


# Worked out by hand from the expression in llama.cpp's src/llama-vocab.cpp.
@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("at 10:35", ["at", " ", "1", "0", ":", "3", "5"]),
        ("don't we'LL", ["don", "'t", " we", "'LL"]),
        ("x.\n\ny", ["x", ".\n\n", "y"]),
        ("a   b", ["a", "  ", " b"]),
        ("if x:\n    y", ["if", " x", ":\n", "   ", " y"]),
        ('{"order": 1', ['{"', "order", '":', " ", "1"]),
        ("[day", ["[day"]),
        ("total_of", ["total", "_of"]),
        ("end  \n", ["end", "  \n"]),
    ],
)
def test_text_is_split_as_llama_cpp_splits_it(text, pieces):
    assert split(text) == pieces


def test_nothing_is_merged_across_pieces(tokenizer):
    text = prompt_text("code", 4_000)
    assert tokenizer.encode(text) == [token for piece in split(text) for token in tokenizer.encode(piece)]


def test_the_vocabulary_has_all_bytes_first_and_the_specials_last(tokenizer):
    held = tokenizer.metadata()
    tokens = held["tokenizer.ggml.tokens"]
    assert len(tokens) == len(held["tokenizer.ggml.token_type"]) == tokenizer.n_vocab == 512
    assert tokens[:256] == list(byte_letters())
    assert tokens[-3:] == list(SPECIALS)
    assert len(set(tokens)) == len(tokens)
    assert all(
        left + right in tokens for left, right in (pair.split() for pair in held["tokenizer.ggml.merges"])
    )


def test_what_may_be_said_is_ascii_text(tokenizer):
    muted = set(tokenizer.muted)
    spoken = [token for token in range(tokenizer.n_vocab) if token not in muted]
    assert tokenizer.end_id in spoken
    text = tokenizer.decode(spoken)
    assert text.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_the_same_texts_give_the_same_merges_and_a_file_keeps_them(tokenizer, tmp_path):
    again = train_tokenizer(sample_texts(1, 120_000), 512)
    assert again.merges == tokenizer.merges
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "tokenizer.json") == tokenizer


def test_text_outside_ascii_is_refused(tokenizer):
    with pytest.raises(ValueError, match="ASCII"):
        tokenizer.encode("caf\u00e9")


def test_too_little_text_for_the_vocabulary_is_told():
    with pytest.raises(ValueError, match="the texts hold only"):
        train_tokenizer(["ab ab"], 512)
