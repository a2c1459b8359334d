"""How near a tie it is where text that was drafted for parts from plain decode's: what `engine.decode.TIE` rests on.

A step that verifies a draft adds up its rows in another order than a plain one, so logits differ in their last digits,
and where two tokens were as likely the other one may be chosen. Texts of the kinds without a grammar (the others seldom
come near a tie), each generated plainly and with drafts of fixed lengths; at the first token in which they differ, the
plain run's margin: how far the likeliest token's logit stands above the next. Writes `near-ties.json`.

    python benchmarks/near_ties.py [--texts 12]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from common import ROOT, machine, show, write_result

from llamacpp_tools.build import manifest
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.decode import TIE
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import Library, open_library
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

KINDS = ("analysis", "narrative", "factual", "instruction")
LENGTHS = (1, 3, 8)
DEPTH, N_PREDICT = 512, 1536
# Margins are told to within this part of themselves, and as 0 below the smallest.
EXACT, SMALLEST = 0.01, 1e-5


def main() -> None:
    """Generate, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=12, help="of each kind")
    asked = parser.parse_args()
    library = open_library(manifest.find("cpu", "patched"))
    options = ContextOptions(
        n_ctx=DEPTH + N_PREDICT + 16, n_ubatch=512, n_threads=auto_threads(), flash_attn="off"
    )
    sessions = {
        n_max: Session(library, miniature(), SessionOptions(options, n_max=n_max, ignore_eos=True))
        for n_max in (None, *LENGTHS)
    }
    rows = [_row(library, sessions, kind, text) for kind in KINDS for text in range(asked.texts)]
    for session in sessions.values():
        session.close()
    summary = _summary(rows)
    result = {"what": __doc__, "rows": rows, "summary": summary, "machine": machine()}
    path = write_result("near-ties", result)
    show(str(path.relative_to(ROOT)), [(key, str(value)) for key, value in summary.items()])


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    margins = sorted(margin for row in rows for margin in row["margins"].values())
    return {
        "compared": len(rows) * len(LENGTHS),
        "parted": len(margins),
        "margin": {f"p{share}": margins[len(margins) * share // 100] for share in (50, 90, 99)},
        "largest": margins[-10:],
        "tie": TIE,
        "above": sum(margin > TIE for margin in margins),
    }


def _row(library: Library, sessions: dict[int | None, Session], kind: str, text: int) -> dict[str, Any]:
    plain = sessions[None]
    prompt = prompt_tokens(kind, DEPTH, plain.model.tokenize, MEASURED_SEED + text)
    tokens = plain.run(prompt, N_PREDICT).tokens
    parted = {}
    for n_max in LENGTHS:
        both = zip(tokens, sessions[n_max].run(prompt, N_PREDICT).tokens, strict=True)
        parted[n_max] = next((at for at, (a, b) in enumerate(both) if a != b), None)
    wanted = sorted({at for at in parted.values() if at is not None})
    margins = dict(zip(wanted, _margins(library, plain, prompt, tokens, wanted), strict=True))
    return {
        "kind": kind,
        "text": text,
        "parted_at": parted,
        "margins": {str(n_max): margins[at] for n_max, at in parted.items() if at is not None},
    }


def _margins(
    library: Library, plain: Session, prompt: Sequence[int], tokens: Sequence[int], wanted: Sequence[int]
) -> Iterator[float]:
    """The margin at each of those places, in their order, the text decoded once more."""
    out = library.ffi.new("llama_token[]", 1)
    plain.decoder.prefill(prompt)
    done = 0
    for at in wanted:
        for token in itertools.islice(tokens, done, at):
            plain.decoder.step(token, len(prompt) + done, out, 0)
            done += 1
        yield _margin(library, plain.decoder)


def _margin(library: Library, decoder: Any) -> float:
    low, high = 0.0, 100.0
    while high - low > max(EXACT * high, SMALLEST):
        middle = (low + high) / 2
        low, high = (low, middle) if library.lib.llt_plain_tied(decoder.handle, middle) else (middle, high)
    return round(high, 5)


if __name__ == "__main__":
    main()
