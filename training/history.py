"""What a run tells of itself: one record every few steps, kept as JSON, and drawn."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llamacpp_tools.files import write_atomic, write_text_atomic


@dataclass(frozen=True)
class Record:
    """Means over the steps since the record before.

    Attributes:
        step, tokens, seconds, progress: at the end of these steps; seconds are those spent training.
        rate: learning rate.
        trunk: loss of the next token, in nats.
        draft: loss of the MTP block at lookahead 1, 2.
        balance: of the experts, 2 at best (two of them are used).
        norm: of the gradient, before it was clipped.
    """

    step: int
    tokens: int
    seconds: float
    progress: float
    rate: float
    trunk: float
    draft: tuple[float, ...]
    balance: float
    norm: float


@dataclass
class History:
    """All records and validations of a run, the resumed parts included."""

    settings: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything as JSON, whole or not at all."""
        write_text_atomic(path, json.dumps(asdict(self), indent=1) + "\n")


def load_history(path: Path) -> History:
    """Read what `History.save` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    records = [Record(**(record | {"draft": tuple(record["draft"])})) for record in found["records"]]
    return History(found["settings"], records, found["validations"])


def plot(history: History, path: Path) -> None:
    """Draw the losses over the tokens seen, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    seen = [record.tokens / 1e6 for record in history.records]
    figure, axes = pyplot.subplots(figsize=(9, 5))
    axes.plot(seen, [record.trunk for record in history.records], label="next token", linewidth=1)
    for at in range(len(history.records[0].draft) if history.records else 0):
        drafts = [record.draft[at] for record in history.records]
        axes.plot(seen, drafts, label=f"MTP, lookahead {at + 1}", linewidth=1)
    for kind in history.validations[-1]["loss"] if history.validations else ():
        points = [(found["tokens"] / 1e6, found["loss"][kind]) for found in history.validations]
        axes.plot(*zip(*points, strict=True), marker=".", linewidth=0.6, label=f"validation: {kind}")
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss, nats a token")
    axes.set_yscale("log")
    axes.legend(fontsize=7, ncol=2)
    axes.grid(alpha=0.3)
    with write_atomic(path) as part:
        figure.savefig(part, format="png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
