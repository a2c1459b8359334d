"""Watched texts with known chances, planted on the machine of tests/advise."""

import numpy as np
import pytest

from llamacpp_tools.engine.trace import runs
from llamacpp_tools.results.schema import Document, Provenance
from llamacpp_tools.sweep.protocol import distinct
from tests.advise.conftest import Machine

POSITIONS = 3000
WRONG = 7


class Lab(Machine):
    """A `Machine` whose MTP block is right with a given chance at each lookahead, if it was right before."""

    def watched(self, chances, workload="log", positions=POSITIONS):
        lookahead = len(chances)
        tokens = [int(token) for token in 10 + self.random.integers(0, 90, positions + lookahead)]
        predicted = []
        for at in range(positions):
            right = np.cumprod(self.random.random(lookahead) < chances)
            predicted += [tokens[at + 1 + k] if right[k] else WRONG for k in range(lookahead)]
        accepted = runs(tokens, predicted, lookahead)
        rest = [0] * (lookahead - 1)
        steps = positions + lookahead - 1
        lists = {
            "step_drafted": [lookahead] * positions + rest, "step_accepted": accepted + rest,
            "step_draft_ns": [1] * steps, "predicted": predicted,
            "pieces": [f"t{token}" for token in distinct(tokens, predicted)],
        }  # fmt: skip
        sample = self._sample(0, steps, [20_000_000] * steps, n_max=lookahead, **lists)
        cell = self._cell("mtp", [sample], None, workload, 4096)
        return cell.model_copy(
            update={"traced": True, "n_max": lookahead, "decode_tps": None, "output_tokens": tokens}
        )


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def document():
    """A document of some cells; what it asked for is of no matter here."""

    def make(*cells):
        return Document(
            status="complete", experiment="planted", date="2026-11-22T00:00:00+00:00", box="a box", backend="cpu",
            model="m.gguf", what="planted", provenance=Provenance(source="measured", model_filename="m.gguf"),
            config={}, cells=list(cells),
        )  # fmt: skip

    return make
