"""The same tokens through torch and through libllama: trunk, and MTP head at lookahead 1 and 2.

The trunk is compared on texts of all kinds as they are measured. The MTP head is compared inside libllama's
own draft-and-verify loop (`llt_mtp_step`): after a step with a draft of one (two) tokens the draft context
holds the logits of lookahead 1 (2), and torch computes the same pairs of token and hidden row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from llamacpp_tools.build.manifest import find
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.evaluate import draft_logits, logits_of
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.ffi.library import Library, open_library
from llamacpp_tools.workloads import MEASURED_SEED, names, prompt_text, prompt_tokens
from training.model import Miniature
from training.tokenizer import Tokenizer

F32 = npt.NDArray[np.float32]
LOOKAHEADS = (1, 2)
N_BATCH = 256
TOKENIZED_CHARS = 20_000
# Room for the longest task; the MTP head is compared on what is generated after it.
SHORTEST_PROMPT = 256


@dataclass(frozen=True)
class Agreement:
    """How two sets of logits agree.

    Attributes:
        what: `trunk`, or `draft 1` and so on.
        positions: how many rows were compared.
        top1: share of rows with the same most likely token.
        largest: largest difference of any logit.
        mean: mean difference.
        widest_swap: where the most likely tokens differ, the largest lead in torch of its choice over the
            library's; a small one is a tie that rounding decides.
    """

    what: str
    positions: int
    top1: float
    largest: float
    mean: float
    widest_swap: float


def compare(model: Miniature, tokenizer: Tokenizer, path: Path, n_positions: int) -> list[Agreement]:
    """Compare a GGUF file with the model that it was made from, on the current patched CPU build.

    Args:
        model: the reference.
        tokenizer: of the model; checked against the library's.
        path: the file.
        n_positions: rows to compare of the trunk and of each lookahead, over all kinds together.

    Raises:
        CheckFailed: the library cuts a text otherwise than the tokenizer.
        MissingTool: there is no build.
    """
    library = open_library(find())
    each = max(-(-n_positions // len(names())), SHORTEST_PROMPT)
    check_tokenizer(library, tokenizer, path)
    prompts = [prompt_tokens(kind, each, tokenizer.encode, MEASURED_SEED) for kind in names()]
    found = [_agreement("trunk", list(_trunk_pairs(library, model, path, prompts)))]
    short = [prompt_tokens(kind, SHORTEST_PROMPT, tokenizer.encode, MEASURED_SEED) for kind in names()]
    drafts = -(-n_positions // len(names()))
    for lookahead in LOOKAHEADS:
        rows = list(_draft_pairs(library, model, path, short, lookahead, drafts))
        found.append(_agreement(f"draft {lookahead}", rows))
    return found


def check_tokenizer(library: Library, tokenizer: Tokenizer, path: Path) -> int:
    """Cut the texts of all kinds with both tokenizers; returns the number of tokens compared.

    Raises:
        CheckFailed: they differ.
    """
    count = 0
    with Session(library, path, SessionOptions(context_options(N_BATCH))) as session:
        for kind in names():
            text = prompt_text(kind, TOKENIZED_CHARS)
            ours, theirs = tokenizer.encode(text), session.model.tokenize(text)
            if ours != theirs:
                at = next(at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
                raise CheckFailed(f"the tokenizers differ on {kind} at token {at}")
            count += len(ours)
    return count


def context_options(n_ctx: int) -> ContextOptions:
    """A context in f32 throughout, on two threads."""
    return ContextOptions(
        n_ctx=n_ctx,
        n_batch=N_BATCH,
        n_ubatch=N_BATCH,
        type_k="f32",
        type_v="f32",
        flash_attn="off",
        n_threads=2,
    )


def _trunk_pairs(
    library: Library, model: Miniature, path: Path, prompts: Sequence[Sequence[int]]
) -> Iterator[tuple[F32, F32]]:
    with Session(library, path, SessionOptions(context_options(max(map(len, prompts)) + 8))) as session:
        for prompt in prompts:
            theirs = logits_of(session.target, prompt)
            with torch.inference_mode():
                ours = model.logits(model.hidden(torch.tensor([prompt])))[0].numpy()
            yield ours, theirs


def _draft_pairs(
    library: Library,
    model: Miniature,
    path: Path,
    prompts: Sequence[Sequence[int]],
    lookahead: int,
    n_positions: int,
) -> Iterator[tuple[F32, F32]]:
    """For each prompt the logits of `n_positions` drafts at one lookahead, torch's and the library's."""
    n_ctx = max(map(len, prompts)) + n_positions * (lookahead + 1) + 8
    with Session(library, path, SessionOptions(context_options(n_ctx), n_max=lookahead)) as session:
        for prompt in prompts:
            drafted = draft_logits(session, prompt, lookahead, n_positions)
            yield torch_draft_logits(model, drafted.tokens, drafted.steps), drafted.logits


def torch_draft_logits(
    model: Miniature, tokens: Sequence[int], steps: Sequence[tuple[int, list[int]]]
) -> F32:
    """Torch's logits [steps, n_vocab]: the pairs up to a position, then a chain over the guesses after it.

    The keys of the pairs are made from the trunk's rows, those of the guesses from the block's own rows.
    """
    given = torch.tensor([tokens])
    found = []
    with torch.inference_mode():
        trunk = model.hidden(given)
        paired = model.drafted(given, trunk)
        for at, guesses in steps:
            hidden, last = trunk[:, : at + 1], paired[:, at : at + 1]
            for nth in range(1, len(guesses) + 1):
                known = torch.tensor([[*tokens[: at + 1], *guesses[:nth]]])
                # Row p goes with the token at p + 1: the block's newest row replaces the trunk's, and what
                # stands behind it is never read.
                hidden = torch.cat((hidden[:, : at + nth - 1], last, last), dim=1)
                last = model.drafted(known, hidden)[:, -1:]
            found.append(model.logits(last[0, 0]))
    rows: F32 = torch.stack(found).numpy()
    return rows


def _agreement(what: str, pairs: Sequence[tuple[F32, F32]]) -> Agreement:
    ours = np.concatenate([pair[0] for pair in pairs])
    theirs = np.concatenate([pair[1] for pair in pairs])
    mine, yours = ours.argmax(axis=1), theirs.argmax(axis=1)
    rows = np.arange(len(ours))
    swaps = (ours[rows, mine] - ours[rows, yours])[mine != yours]
    differences = np.abs(ours - theirs)
    return Agreement(
        what,
        len(ours),
        round(float((mine == yours).mean()), 6),
        float(differences.max()),
        float(differences.mean()),
        float(swaps.max(initial=0.0)),
    )
