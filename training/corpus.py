"""Rows of tokens for training and validation: a mixture of kinds, made when they are asked for.

Row `r` of step `s` depends on the seed, the split, `s` and `r` only, so a run that goes on from a checkpoint
reads on where it stopped, and no corpus has to be stored.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.documents import DRILL, KINDS, Split, document
from training.drills import NO_DRILLS, Drills, drill
from training.tokenizer import Tokenizer

Rows = npt.NDArray[np.int64]

# Shares of the documents, and about those of the tokens, since every kind is asked for the same lengths. The
# workloads' own kinds in rough parts; recall, which is learnt late, a little more.
MIXTURE: Mapping[str, float] = {
    "maintenance_log": 0.12,
    "analysis": 0.13,
    "narrative": 0.12,
    "code": 0.11,
    "extraction": 0.14,
    "factual": 0.07,
    "thinking": 0.08,
    "instruction": 0.09,
    "recall": 0.14,
}
SHORTEST_DOCUMENT = 96
_SAMPLE_CHARS = 20_000


@dataclass(frozen=True)
class Corpus:
    """Texts as tokens.

    Attributes:
        tokenizer: what cuts them.
        seed: of the whole run.
        chars_per_token: by kind, to ask for texts of the right length.
    """

    tokenizer: Tokenizer
    seed: int
    chars_per_token: Mapping[str, float]

    def rows(
        self, split: Split, step: int, n_rows: int, n_tokens: int, first: int = 0, drills: Drills = NO_DRILLS
    ) -> Rows:
        """Rows `first` and on of one step, [n_rows, n_tokens]; an end token stands between two documents."""
        made = (
            self._row(split, f"{self.seed}:{split}:{step}:{row}", n_tokens, drills)
            for row in range(first, first + n_rows)
        )
        return np.array(list(made), dtype=np.int64)

    def row_of(self, kind: str, split: Split, name: str, n_tokens: int) -> list[int]:
        """Exactly `n_tokens` tokens of one document of a kind; `name` says which."""
        rng = random.Random(f"{self.seed}:{split}:{kind}:{name}")
        n_chars = int(n_tokens * self.chars_per_token[kind])
        while True:
            tokens = self.tokenizer.encode(document(kind, n_chars, split, rng))
            if len(tokens) >= n_tokens:
                return tokens[:n_tokens]
            n_chars = int(n_chars * 1.3) + 100

    def _row(self, split: Split, name: str, n_tokens: int, drills: Drills) -> list[int]:
        rng = random.Random(name)
        row: list[int] = []
        while len(row) < n_tokens:
            left = n_tokens - len(row)
            row += self._document(split, rng, left, drills)
            row.append(self.tokenizer.end_id)
        return row[:n_tokens]

    def _document(self, split: Split, rng: random.Random, left: int, drills: Drills) -> list[int]:
        """A document that fills the room half of the time, and is shorter otherwise."""
        kind = rng.choices(KINDS, [MIXTURE[kind] for kind in KINDS])[0]
        if drills.share and rng.random() < drills.share:
            kind = DRILL
        whole = left <= SHORTEST_DOCUMENT or rng.random() < 0.5
        wanted = left if whole else rng.randrange(SHORTEST_DOCUMENT, left + 1)
        n_chars = int(wanted * self.chars_per_token[kind])
        text = drill(n_chars, rng, drills.longest) if kind == DRILL else document(kind, n_chars, split, rng)
        return self.tokenizer.encode(text)


def sample_texts(seed: int, n_chars: int) -> Iterator[str]:
    """Training texts of all kinds in their shares, `n_chars` in all: what a tokenizer is trained on."""
    rng = random.Random(f"{seed}:tokenizer")
    for kind in KINDS:
        wanted = int(n_chars * MIXTURE[kind])
        while wanted > 0:
            text = document(kind, min(wanted, 8_000), "train", rng)
            wanted -= len(text)
            yield text


def build_corpus(tokenizer: Tokenizer, seed: int) -> Corpus:
    """A corpus for a tokenizer, with the characters per token of each kind measured on a sample."""
    rng = random.Random(f"{seed}:sample")
    measured = {}
    for kind in (*KINDS, DRILL):
        text = document(kind, _SAMPLE_CHARS, "train", rng)
        measured[kind] = len(text) / len(tokenizer.encode(text))
    return Corpus(tokenizer, seed, measured)
