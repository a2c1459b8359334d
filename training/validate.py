"""Losses and draft agreement on validation texts, by kind and by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional

from training.corpus import Corpus
from training.documents import DRILL, KINDS
from training.model import Miniature

QUICK_TOKENS = 768
BUCKETS = (0, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class KindReport:
    """One kind of text.

    Attributes:
        loss: mean cross-entropy of the next token, nats.
        draft_loss: the same of the MTP block at lookahead 1 and 2.
        agreement: share of positions where the block's most likely token is the trunk's, at lookahead 1 and 2,
            over text that is given, not generated.
        by_position: loss by bucket of positions, `256-512` and so on.
        margin: least distance of a muted token's logit below the best one.
    """

    loss: float
    draft_loss: tuple[float, ...]
    agreement: tuple[float, ...]
    by_position: dict[str, float]
    margin: float


def quick_losses(model: Miniature, corpus: Corpus) -> dict[str, float]:
    """Loss by kind on one short validation text each."""
    was_training = model.training
    model.eval()
    found = {}
    with torch.inference_mode():
        for kind in (*KINDS, DRILL):
            tokens = torch.tensor([corpus.row_of(kind, "validation", "quick", QUICK_TOKENS)])
            logits = model.logits(model.hidden(tokens))[0, :-1]
            found[kind] = round(float(functional.cross_entropy(logits, tokens[0, 1:])), 4)
    model.train(was_training)
    return found


def report(
    model: Miniature, corpus: Corpus, n_tokens: int, n_rows: int, kinds: Sequence[str] = KINDS
) -> dict[str, KindReport]:
    """Losses and agreement of each kind over `n_rows` validation texts of `n_tokens` tokens."""
    model.eval()
    found = {}
    with torch.inference_mode():
        for kind in kinds:
            rows = [corpus.row_of(kind, "validation", f"report:{row}", n_tokens) for row in range(n_rows)]
            found[kind] = _kind_report(model, corpus, torch.tensor(rows))
    return found


def _kind_report(model: Miniature, corpus: Corpus, tokens: torch.Tensor) -> KindReport:
    parts = [_row(model, corpus, row.unsqueeze(0)) for row in tokens]
    losses = torch.stack([part[0] for part in parts])
    by_position = {
        f"{first}-{last}": round(float(losses[:, first:last].mean()), 4)
        for first, last in pairwise(BUCKETS)
        if first < losses.shape[1]
    }
    n_draft = len(parts[0][1])
    return KindReport(
        loss=round(float(losses.mean()), 4),
        draft_loss=tuple(round(sum(part[1][at] for part in parts) / len(parts), 4) for at in range(n_draft)),
        agreement=tuple(round(sum(part[2][at] for part in parts) / len(parts), 4) for at in range(n_draft)),
        by_position=by_position,
        margin=round(min(part[3] for part in parts), 2),
    )


def _row(
    model: Miniature, corpus: Corpus, tokens: torch.Tensor
) -> tuple[torch.Tensor, list[float], list[float], float]:
    """Loss by position, then draft losses, agreements and the margin of one row [1, tokens]."""
    hidden = model.hidden(tokens)
    logits = model.logits(hidden)[0, :-1]
    losses = functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
    best, chosen = logits.max(dim=-1)
    muted = list(corpus.tokenizer.muted)
    margin = float((best - logits[:, muted].max(dim=-1).values).min())
    draft_losses, agreements = [], []
    for _ in range(2):
        hidden = model.drafted(tokens, hidden)
        drafted = model.logits(hidden)[0, :-1]
        draft_losses.append(float(functional.cross_entropy(drafted, tokens[0, 1:])))
        agreements.append(float((drafted.argmax(dim=-1) == chosen).float().mean()))
    return losses, draft_losses, agreements, margin
