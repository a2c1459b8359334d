"""What it costs to catch up before a draft, and what it costs not to.

While nothing is drafted the MTP block sees no token. Before the next draft it can decode all that it missed, which
takes time, or the last few tokens alone, which leaves a gap in its cache and may make its drafts worse. Texts of each
kind with turns of 160 tokens without a draft and then twelve steps with drafts of 3, by the most tokens that are caught
up with: the share of drafted tokens that is accepted. And what the first of the twelve steps takes beyond the others,
in plain steps, for the miniature alone, with ballast, and with flash attention, whose CPU kernel takes fewer than 64
tokens one by one. Writes `catch-up.json`.

    python benchmarks/catch_up.py [--texts 3]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Literal

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
MOST = (LENGTH + 1, 8, 16, 32, 64, IDLE)
DEPTH, N_PREDICT = 512, 1400
PLACES: dict[str, tuple[Ballast, Literal["on", "off"]]] = {
    "miniature": (Ballast(0, 0), "off"),
    "with ballast": (Ballast(120_000_000, 0), "off"),
    "miniature, flash attention": (Ballast(0, 0), "on"),
}


def main() -> None:
    """Generate, count, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=3, help="of each kind")
    asked = parser.parse_args()
    kinds = {kind: {str(most): _accepted(most, kind, asked.texts) for most in MOST} for kind in names()}
    accepted = {
        str(most): round(statistics.fmean(each[str(most)] for each in kinds.values()), 4) for most in MOST
    }
    price = {place: {str(most): _price(place, asked.texts, most) for most in MOST} for place in PLACES}
    summary = {"accepted": accepted, "plain steps": price}
    result = {"what": __doc__, "accepted_by_kind": kinds, "summary": summary, "machine": machine()}
    path = write_result("catch-up", result)
    rows = [(f"accepted, the last {most} caught up with", f"{share:.3f}") for most, share in accepted.items()]
    rows += [
        (f"plain steps, {place}, the last {most}", f"{steps:.3f}")
        for place, by_most in price.items()
        for most, steps in by_most.items()
    ]
    show(str(path.relative_to(ROOT)), rows)


def _accepted(most: int, kind: str, texts: int) -> float:
    """The share of drafted tokens that was accepted."""
    drafted = accepted = 0
    for done in _generated("miniature", kind, texts, most):
        drafted += sum(done.step_drafted)
        accepted += sum(done.step_accepted)
    return round(accepted / drafted, 4)


def _price(place: str, texts: int, most: int) -> float:
    """What catching up with so many tokens takes, in plain steps: the median over the turns."""
    found = []
    for done in _generated(place, "analysis", texts, most):
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
            found.append((done.step_draft_ns[at] - usual) / plain)
    return round(statistics.median(found), 4)


def _generated(place: str, kind: str, texts: int, most: int) -> Sequence[Generation]:
    library = open_library(manifest.find("cpu", "patched"))
    ballast, flash_attn = PLACES[place]
    context = ContextOptions(
        n_ctx=DEPTH + N_PREDICT + 16, n_ubatch=512, n_threads=auto_threads(), flash_attn=flash_attn
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
