import pytest

from llamacpp_tools.workloads import distinct_word_ratio


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("", None),
        (" .,; ", None),
        ("One two three", 1.0),
        ("a A a a", 0.25),
        ("it's its it's", 2 / 3),
        ("gr\u00fcn gr\u00fcn blau", 2 / 3),
    ],
)
def test_ratio(text, ratio):
    assert distinct_word_ratio(text) == ratio
