"""A small byte-level BPE vocabulary, trained here, that splits text as llama.cpp's `qwen35` kind does.

All 256 byte tokens exist, because llama.cpp wants them; merges are made of ASCII text only. A model that is
trained on what `encode` gives never sees the bytes that are no text of their own (`muted`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from llamacpp_tools.files import write_text_atomic
from llamacpp_tools.models.vocab import N_BYTES, SPECIALS, TOKEN_CONTROL, TOKEN_NORMAL, byte_letters

# What llama.cpp's expression for `qwen35` (src/llama-vocab.cpp at b9842) says about ASCII text: contractions,
# words with one mark or blank before them, single digits, runs of marks, line ends, blanks.
_SPLIT = re.compile(
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
    r"|[^\r\nA-Za-z0-9]?[A-Za-z]+"
    r"|[0-9]"
    r"| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
Pair = tuple[int, int]


@dataclass(frozen=True)
class Tokenizer:
    """Bytes 0 .. 255, then one token per merge in rank order, then the specials.

    Attributes:
        merges: pairs of ids; merge `i` makes token `256 + i`.
    """

    merges: tuple[Pair, ...]
    _ranks: dict[Pair, int] = field(init=False, repr=False, compare=False)
    _bytes: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _known: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pieces = [bytes([byte]) for byte in range(N_BYTES)]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        object.__setattr__(self, "_ranks", {pair: rank for rank, pair in enumerate(self.merges)})
        object.__setattr__(self, "_bytes", tuple(pieces))
        object.__setattr__(self, "_known", {})

    @property
    def n_vocab(self) -> int:
        """Bytes, merges and specials together."""
        return N_BYTES + len(self.merges) + len(SPECIALS)

    @property
    def end_id(self) -> int:
        """The token between two documents."""
        return N_BYTES + len(self.merges)

    @property
    def muted(self) -> tuple[int, ...]:
        """Ids that must never be generated: bytes that are no printable ASCII or line end, unused specials."""
        spoken = {10, *range(32, 127)}
        silent = [byte for byte in range(N_BYTES) if byte not in spoken]
        return (*silent, *range(self.end_id + 1, self.n_vocab))

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without specials.

        Raises:
            ValueError: the text is not ASCII, where the split of llama.cpp is another.
        """
        if not text.isascii():
            raise ValueError("this tokenizer is for ASCII text")
        ids: list[int] = []
        known = self._known
        for piece in _SPLIT.findall(text):
            found = known.get(piece)
            if found is None:
                found = known[piece] = _merged(tuple(piece.encode()), self._ranks)
            ids.extend(found)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; specials give nothing, bytes that are no text the replacement character."""
        raw = b"".join(self._bytes[token] for token in ids if token < self.end_id)
        return raw.decode("utf-8", "replace")

    def metadata(self) -> dict[str, bool | int | str | list[int] | list[str]]:
        """The `tokenizer.ggml.*` keys of a GGUF file."""
        letters = byte_letters()
        spelled = ["".join(letters[byte] for byte in piece) for piece in self._bytes]
        values: dict[str, bool | int | str | list[int] | list[str]] = {
            "model": "gpt2",
            "pre": "qwen35",
            "tokens": [*spelled, *SPECIALS],
            "token_type": [TOKEN_NORMAL] * len(spelled) + [TOKEN_CONTROL] * len(SPECIALS),
            "merges": [f"{spelled[left]} {spelled[right]}" for left, right in self.merges],
            "bos_token_id": self.end_id,
            "eos_token_id": self.end_id,
            "padding_token_id": self.end_id,
            "add_bos_token": False,
        }
        return {f"tokenizer.ggml.{key}": value for key, value in values.items()}

    def save(self, path: Path) -> None:
        """Write the merges as JSON, whole or not at all."""
        write_text_atomic(path, json.dumps({"merges": self.merges}) + "\n")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read what `Tokenizer.save` wrote."""
    merges = json.loads(path.read_text(encoding="utf-8"))["merges"]
    return Tokenizer(tuple((int(left), int(right)) for left, right in merges))


def split(text: str) -> list[str]:
    """The pieces of ASCII `text` across which nothing is merged; joined they are the text."""
    return _SPLIT.findall(text)


def train_tokenizer(texts: Iterable[str], n_vocab: int) -> Tokenizer:
    """Merge the most frequent pair of neighbours until there are `n_vocab` tokens (Sennrich et al., 2016).

    Of equally frequent pairs the smaller ids win, so the same texts give the same merges everywhere.

    Raises:
        ValueError: the vocabulary is too small, or the texts hold too few pairs to fill it.
    """
    n_merges = n_vocab - N_BYTES - len(SPECIALS)
    if n_merges < 0:
        raise ValueError(f"a vocabulary needs at least {N_BYTES + len(SPECIALS)} tokens, not {n_vocab}")
    pieces: Counter[str] = Counter()
    for text in texts:
        pieces.update(split(text))
    words = [(list(piece.encode()), count) for piece, count in sorted(pieces.items()) if len(piece) > 1]
    merges: list[Pair] = []
    while len(merges) < n_merges:
        pairs: Counter[Pair] = Counter()
        for symbols, count in words:
            for pair in pairwise(symbols):
                pairs[pair] += count
        if not pairs:
            raise ValueError(f"the texts hold only {len(merges)} merges, {n_merges} are needed")
        best = max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1]))
        merged = N_BYTES + len(merges)
        merges.append(best)
        for symbols, _ in words:
            _merge(symbols, best, merged)
        words = [word for word in words if len(word[0]) > 1]
    return Tokenizer(tuple(merges))


def _merge(symbols: list[int], pair: Pair, merged: int) -> None:
    """Replace every `pair` in `symbols` by `merged`, from the left."""
    at = 0
    while at < len(symbols) - 1:
        if symbols[at] == pair[0] and symbols[at + 1] == pair[1]:
            symbols[at : at + 2] = [merged]
        at += 1


def _merged(symbols: tuple[int, ...], ranks: dict[Pair, int]) -> tuple[int, ...]:
    """One piece after all merges, the lowest rank first and the leftmost of equals."""
    found = list(symbols)
    while len(found) > 1:
        ranked = [(ranks[pair], at) for at, pair in enumerate(pairwise(found)) if pair in ranks]
        if not ranked:
            break
        rank, at = min(ranked)
        found[at : at + 2] = [N_BYTES + rank]
    return tuple(found)
