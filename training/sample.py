"""What the exported file writes after each kind's prompt, through libllama, plain and with MTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.build.manifest import find
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.workloads import MEASURED_SEED, distinct_word_ratio, names, prompt_tokens
from llamacpp_tools.workloads.recall import cases, recall_tokens
from training.tokenizer import Tokenizer

DEPTH = 1024
N_PREDICT = 200
N_MAX = 3
N_RECALL, RECALL_PREDICT = 20, 12


@dataclass(frozen=True)
class Sample:
    """One generated text.

    Attributes:
        kind: of the prompt.
        text: what came after it.
        acceptance: accepted over drafted tokens with drafts of three.
        distinct: distinct words over words.
    """

    kind: str
    text: str
    acceptance: float
    distinct: float

    def told(self) -> str:
        """Numbers, then the text."""
        return f"== {self.kind}: acceptance {self.acceptance:.3f}, distinct words {self.distinct:.2f}\n{self.text}"


def sample(path: Path, tokenizer: Tokenizer, depth: int = DEPTH) -> list[Sample]:
    """Greedy text after the measured prompt of each kind, and how many recall questions are answered.

    Raises:
        MissingTool: there is no patched CPU build.
    """
    library = open_library(find())
    options = ContextOptions(n_ctx=depth + N_PREDICT + 16, n_threads=2)
    found = []
    with Session(library, path, SessionOptions(options, n_max=N_MAX)) as session:
        for kind in names():
            made = session.run(prompt_tokens(kind, depth, tokenizer.encode, MEASURED_SEED), N_PREDICT)
            text = session.model.detokenize(list(made.tokens))
            share = sum(made.accepted) / max(1, sum(made.drafted))
            found.append(Sample(kind, text, share, distinct_word_ratio(text) or 0.0))
        right, told = 0, []
        for index, case in zip(range(N_RECALL), cases(MEASURED_SEED), strict=False):
            prompt = recall_tokens(case, "narrative", depth, tokenizer.encode, MEASURED_SEED + index)
            made = session.run(prompt, RECALL_PREDICT)
            text = session.model.detokenize(list(made.tokens))
            right += case.asked.answered(text)
            told.append(f"{case.asked.place}:{text.splitlines()[0] if text else ''}")
        found.append(Sample("recall", "; ".join(told[:8]), right / N_RECALL, 0.0))
    return found
