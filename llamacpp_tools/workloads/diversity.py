"""How varied a text is: a greedy model that falls into a loop shows in one number."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+(?:'\w+)*")


def distinct_word_ratio(text: str) -> float | None:
    """Distinct words over all words, in lower case; None for a text without words.

    About 0.7 is a varied text of 200 tokens, below 0.3 one that repeats itself.
    """
    words = _WORD.findall(text.lower())
    return len(set(words)) / len(words) if words else None
