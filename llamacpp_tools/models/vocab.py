"""A small byte-level BPE vocabulary for synthetic models: any text round-trips, common words are short.

The tokenizer is of the `gpt2` kind, as the model family's is: 256 byte tokens, then one token per merge,
then the specials. The merges are grown from `WORDS`, so that each of these words is one token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

# Words that follow a blank, and fragments (written with a leading `-`) that may follow anything.
WORDS = """
-he -in -er -on -re -th -ed -ing the a of and to in is it for on as at by be he we no so or that this with
was are not from all one out up can has had will when what time day who which more some then now into
over after first only error warn info start stop fail ok line log disk memory server service read write
value file user node host port task job run load check power pump valve temp pressure sensor level main
room water light night door hand old man long little house said down never again still wind sea road back
two three four five new set high low open cold dark under year made ship rain stone river
"""
MARKS = ".,:;-=\n0123456789"

N_BYTES = 256
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MIN_TOKENS = 512
N_MERGES = MIN_TOKENS - N_BYTES - len(SPECIALS)

TOKEN_NORMAL, TOKEN_CONTROL, TOKEN_UNUSED = 1, 3, 5  # enum llama_token_type in llama.h


@dataclass(frozen=True)
class Vocab:
    """What the `tokenizer.ggml.*` keys of a synthetic model hold.

    Attributes:
        tokens: the token texts in the byte-to-letter form of GPT-2, ids 0 .. n-1.
        types: one `llama_token_type` per token.
        merges: the merges in rank order, as `left right`.
        speakable: ids that a synthetic model may generate: whole words, digits, marks. All of them are
            ASCII, so whatever such a model writes is valid text.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    speakable: tuple[int, ...]
    pad_id: int
    bos_id: int
    eos_id: int


@cache
def build_vocab(n_vocab: int = MIN_TOKENS) -> Vocab:
    """The vocabulary of `n_vocab` tokens; those past the small one's 512 are unused fillers.

    Raises:
        ValueError: `n_vocab` is under 512.
    """
    if n_vocab < MIN_TOKENS:
        raise ValueError(f"a vocabulary needs at least {MIN_TOKENS} tokens, not {n_vocab}")
    letters = byte_letters()
    merges = _grow_merges(letters)
    pieces = [left + right for left, right in merges]
    fillers = [f"<|unused_{index}|>" for index in range(n_vocab - MIN_TOKENS)]
    first_special = N_BYTES + len(pieces)
    words = {_spelled(word, letters) for word in WORDS.split() if not word.startswith("-")}
    marks = [byte for byte in range(N_BYTES) if chr(byte) in MARKS]
    return Vocab(
        tokens=(*letters, *pieces, *SPECIALS, *fillers),
        types=(TOKEN_NORMAL,) * first_special
        + (TOKEN_CONTROL,) * len(SPECIALS)
        + (TOKEN_UNUSED,) * len(fillers),
        merges=tuple(f"{left} {right}" for left, right in merges),
        speakable=(*marks, *(N_BYTES + at for at, piece in enumerate(pieces) if piece in words)),
        pad_id=first_special,
        bos_id=first_special + 1,
        eos_id=first_special + 2,
    )


def byte_letters() -> tuple[str, ...]:
    """The printable letter that stands for each byte 0 .. 255 in token texts (GPT-2's table).

    Bytes that are printable in Latin-1 stand for themselves, the others for letters from U+0100 on.
    """
    spare = iter(range(256, 512))
    return tuple(
        chr(byte) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174 else chr(next(spare))
        for byte in range(N_BYTES)
    )


def _grow_merges(letters: tuple[str, ...]) -> list[tuple[str, str]]:
    """Merges such that each of `WORDS` becomes one token, until the budget of `N_MERGES` is spent.

    A word is first cut with the merges so far, so common beginnings and fragments are shared. Later merges
    rank lower, hence never change how an earlier word is cut.
    """
    merges: dict[tuple[str, str], int] = {}
    for word in WORDS.split():
        symbols = _cut(list(_spelled(word, letters)), merges)
        while len(symbols) > 1:
            if len(merges) == N_MERGES:
                return list(merges)
            merges[symbols[0], symbols[1]] = len(merges)
            symbols[:2] = [symbols[0] + symbols[1]]
    return list(merges)


def _spelled(word: str, letters: tuple[str, ...]) -> str:
    text = word[1:] if word.startswith("-") else " " + word
    return "".join(letters[byte] for byte in text.encode())


def _cut(symbols: list[str], merges: dict[tuple[str, str], int]) -> list[str]:
    while True:
        ranked = [(merges[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in merges]
        if not ranked:
            return symbols
        _, at = min(ranked)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
