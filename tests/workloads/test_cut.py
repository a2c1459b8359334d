import re

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.workloads import names, prompt_tokens
from llamacpp_tools.workloads.registry import get


class Words:
    """A tokenizer of words and what stands between them; ids are given in the order of coming."""

    def __init__(self, pattern=r"\w+|\s+|[^\w\s]"):
        self.pattern = re.compile(pattern)
        self.ids = {}
        self.words = []

    def __call__(self, text):
        found = self.pattern.findall(text)
        for word in found:
            if word not in self.ids:
                self.ids[word] = len(self.words)
                self.words.append(word)
        return [self.ids[word] for word in found]

    def text(self, tokens):
        return "".join(self.words[token] for token in tokens)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("depth", [300, 1_001, 20_480])
def test_exactly_the_depth_with_the_task_whole(name, depth):
    tokenize = Words()
    tokens = prompt_tokens(name, depth, tokenize, 7)
    assert len(tokens) == depth
    assert tokenize.text(tokens).endswith(get(name).task)


@pytest.mark.parametrize("pattern", [r"(?s:.)", r"(?s:.{1,40})"])
def test_any_size_of_token_will_do(pattern):
    assert len(prompt_tokens("narrative", 3_000, Words(pattern), 7)) == 3_000


def test_a_shorter_prompt_without_a_task_begins_a_longer_one():
    tokenize = Words()
    long = prompt_tokens("maintenance_log", 5_000, tokenize, 7)
    assert prompt_tokens("maintenance_log", 777, tokenize, 7) == long[:777]
    assert prompt_tokens("maintenance_log", 1, tokenize, 7) == long[:1]


def test_no_room_for_the_task_is_refused():
    with pytest.raises(BadInput, match=r"depth 20 is too small for the workload analysis, .* \d+ tokens"):
        prompt_tokens("analysis", 20, Words(), 7)


def test_the_task_alone_fits_exactly():
    tokenize = Words()
    size = len(tokenize(get("analysis").task))
    assert tokenize.text(prompt_tokens("analysis", size, tokenize, 7)) == get("analysis").task


def test_a_file_is_cut_and_never_repeated(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("one two three four")
    tokenize = Words(r"\w+\s?")
    assert len(prompt_tokens(f"file:{path}", 4, tokenize, 7)) == 4
    assert tokenize.text(prompt_tokens(f"file:{path}", 2, tokenize, 7)) == "one two "
    with pytest.raises(BadInput, match="has 4 tokens, the depth asks for 5"):
        prompt_tokens(f"file:{path}", 5, tokenize, 7)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="there is no text file"):
        prompt_tokens(f"file:{tmp_path / 'none'}", 5, Words(), 7)
    with pytest.raises(BadInput, match="cannot be read"):
        prompt_tokens(f"file:{tmp_path}", 5, Words(), 7)
    (tmp_path / "b").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInput, match="not UTF-8"):
        prompt_tokens(f"file:{tmp_path / 'b'}", 5, Words(), 7)
