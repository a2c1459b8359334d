"""What it costs to catch up before a draft, and what it costs not to.

While nothing is drafted the MTP block sees no token. Before the next draft it can decode all that it missed, which
takes time, or the last few tokens alone, which leaves a gap in its cache and may make its drafts worse. Texts of each
kind with turns of 160 tokens without a draft and then twelve steps with drafts of 3, by the most tokens that are caught
up with: the share of drafted tokens that is accepted. And what the first of the twelve steps takes beyond the others
for each token that it catches up with, in plain steps, for the miniature alone and with ballast. Writes
`catch-up.json`.

    python benchmarks/catch_up.py [--texts 3]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from common import ROOT, machine, show, write_result

from llamacpp_tools.build import manifest
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.decode import MtpDecoder
from llamacpp_tools.engine.generate import Generation
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import MEASURED_SEED, names, prompt_tokens

IDLE, DRAFTED, LENGTH = 160, 12, 3
# The smallest is what a step with a draft leaves behind, the largest all.
MOST = (LENGTH + 1, 16, 32, 64, IDLE)
DEPTH, N_PREDICT = 512, 1400
BALLAST = Ballast(120_000_000, 0)


def main() -> None:
    """Generate, count, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=3, help="of each kind")
    asked = parser.parse_args()
    kinds = {kind: {str(most): _accepted(most, kind, asked.texts) for most in MOST} for kind in names()}
    accepted = {
        str(most): round(statistics.fmean(each[str(most)] for each in kinds.values()), 4) for most in MOST
    }
    price = {
        "miniature": _price(Ballast(0, 0), asked.texts),
        "with ballast": _price(BALLAST, asked.texts),
    }
    summary = {"accepted": accepted, "plain steps a token": price}
    result = {"what": __doc__, "accepted_by_kind": kinds, "summary": summary, "machine": machine()}
    path = write_result("catch-up", result)
    rows = [(f"accepted, the last {most} caught up with", f"{share:.3f}") for most, share in accepted.items()]
    rows += [(f"plain steps a token, {model}", f"{each:.4f}") for model, each in price.items()]
    show(str(path.relative_to(ROOT)), rows)


def _accepted(most: int, kind: str, texts: int) -> float:
    """The share of drafted tokens that was accepted."""
    drafted = accepted = 0
    for done in _generated(Ballast(0, 0), kind, texts, most):
        drafted += sum(done.step_drafted)
        accepted += sum(done.step_accepted)
    return round(accepted / drafted, 4)


def _price(ballast: Ballast, texts: int) -> float:
    """What a token that is caught up with takes, in plain steps: the median over the turns."""
    found = []
    for done in _generated(ballast, "analysis", texts, IDLE):
        plain = statistics.median(
            ns for ns, drafted in zip(done.step_ns, done.step_drafted, strict=True) if drafted == 0
        )
        begins = [
            at
            for at in range(1, len(done.step_drafted) - DRAFTED)
            if done.step_drafted[at] and not done.step_drafted[at - 1]
        ]
        for at in begins:
            usual = statistics.median(done.step_draft_ns[at + 1 : at + DRAFTED])
            found.append((done.step_draft_ns[at] - usual) / IDLE / plain)
    return round(statistics.median(found), 5)


def _generated(ballast: Ballast, kind: str, texts: int, most: int) -> Sequence[Generation]:
    library = open_library(manifest.find("cpu", "patched"))
    context = ContextOptions(
        n_ctx=DEPTH + N_PREDICT + 16, n_ubatch=512, n_threads=auto_threads(), flash_attn="off"
    )
    options = SessionOptions(context, n_max=LENGTH, ignore_eos=True)
    drafts = (*[0] * IDLE, *[LENGTH] * DRAFTED)
    found = []
    with Session(library, miniature(ballast), options) as session:
        decoder = session.decoder
        assert isinstance(decoder, MtpDecoder)
        decoder.catch_up(most)
        for text in range(texts):
            prompt = prompt_tokens(kind, DEPTH, session.model.tokenize, MEASURED_SEED + text)
            found.append(session.go_on(session.fill(prompt), N_PREDICT, drafts=drafts))
    return found


if __name__ == "__main__":
    main()
