"""What was drafted beside what came, token by token with its text, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llamacpp_tools.acceptance.lab import class_of
from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import write_text_atomic
from llamacpp_tools.results.schema import Document
from llamacpp_tools.sweep.protocol import distinct


def pairs(document: Document) -> Iterator[dict[str, object]]:
    """Every drafted token of every watched text.

    `position` counts the text's tokens from 0 and is that of the token drafted for; the draft was made `lookahead`
    tokens before it. `accepted` says that it and all before it in its draft came true.
    """
    for cell in document.cells:
        if cell.status != "ok" or not cell.traced or not cell.n_max or not cell.samples:
            continue
        sample, tokens, length = cell.samples[0], cell.output_tokens or [], cell.n_max
        text = dict(zip(distinct(tokens, sample.predicted), sample.pieces, strict=True))
        for at, guess in enumerate(sample.predicted):
            step, ahead = divmod(at, length)
            actual = tokens[step + 1 + ahead]
            yield {
                "class": class_of(cell.workload),
                "position": step + 1 + ahead,
                "lookahead": ahead + 1,
                "predicted": guess,
                "actual": actual,
                "predicted_text": text[guess],
                "actual_text": text[actual],
                "ok": guess == actual,
                "accepted": sample.step_accepted[step] > ahead,
            }


def write_pairs(path: Path, document: Document) -> int:
    """Write them to `path` in one step; their number.

    Raises:
        BadInput: the file cannot be written.
    """
    lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs(document)]
    if not lines:
        raise BadInput(
            f"{document.experiment} has no drafted token, so there are no pairs to write to {path}"
        )
    try:
        write_text_atomic(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise BadInput(f"the pairs cannot be written to {path}: {error.strerror}") from None
    return len(lines)
