"""Rollback put to the test in a process of its own: random drafts, random acceptance, and a twin that never
rolls back.

Each decode of the twin adds what was accepted and nothing else, so its caches are those of a straight decode. After
every step the logits of both are compared: a cell that a rollback lost or left behind shows there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine import Context, ContextOptions, Recipe, Session, SessionOptions
from llamacpp_tools.ffi.library import open_library

N_MAX = 8
N_CTX = 2304
Logits = npt.NDArray[np.float32]


def rows(context: Context, count: int) -> Logits:
    """The logits of the last decode's first `count` tokens."""
    ffi, lib, n_vocab = context.model.library.ffi, context.model.library.lib, context.model.n_vocab
    found = [
        np.frombuffer(ffi.buffer(lib.llama_get_logits_ith(context.handle, row), 4 * n_vocab), np.float32)
        for row in range(count)
    ]
    return np.array(found)


class Twin:
    """A context that only ever decodes what stays."""

    def __init__(self, session: Session, asked: dict[str, Any]) -> None:
        recipe = (
            Recipe(asked["twin_window"], session.model.recipe.full_layers) if asked["twin_window"] else None
        )
        library = session.model.library
        plain = SessionOptions(session.target.options, recipe, ignore_eos=True)
        self._session = Session(library, session.model.path, plain)
        self._lib = library.lib
        self._batch = self._lib.llama_batch_init(N_MAX + 1, 0, 1)

    def prefill(self, tokens: list[int]) -> None:
        self._session.fill(tokens)

    def decode(self, tokens: list[int], pos: int) -> Logits:
        """Logits of each of `tokens`, decoded in one batch."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, pos + index
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
        status = self._lib.llama_decode(self._session.target.handle, batch)
        assert status == 0, f"the twin's decode ended with {status}"
        return rows(self._session.target, len(tokens))


def machine(
    session: Session, twin: Twin, asked: dict[str, Any], told: dict[str, Any]
) -> type[RuleBasedStateMachine]:
    """The state machine on an open session, kept for all its examples; `told` gathers what was seen."""
    same_window = asked["window"] == asked["twin_window"]
    out = session.model.library.ffi.new("llama_token[]", N_MAX + 1)

    class Rollback(RuleBasedStateMachine):
        """One text: prefilled, then stepped."""

        @initialize(
            length=st.one_of(st.integers(1, 40), st.integers(41, 900)),
            seed=st.integers(0, 1000),
            whole=st.lists(st.integers(1, N_MAX), max_size=4),
        )
        def prefill(self, length: int, seed: int, whole: list[int]) -> None:
            tokens = [int(token) for token in np.random.default_rng(seed).integers(8, 300, length)]
            self.last = session.decoder.prefill(tokens)
            twin.prefill(tokens)
            self.pos = length
            self.worst = 0.0
            self.steps = 0
            self.straight = True
            for drafted in whole:
                self.step(drafted, drafted)

        @rule(drafted=st.integers(1, N_MAX), accepted=st.integers(0, N_MAX))
        def step(self, drafted: int, accepted: int) -> None:
            if self.pos + N_MAX + 1 >= N_CTX:
                return
            before, accepted = self.last, min(accepted, drafted)
            step = session.decoder.step(before, self.pos, out, drafted, accepted)
            assert (step.n_drafted, step.n_accepted) == (drafted, accepted)
            kept = [before, *(int(out[index]) for index in range(accepted))]
            found, wanted = rows(session.target, accepted + 1), twin.decode(kept, self.pos)
            # Until something is refused, both decode the same batches.
            self.straight = self.straight and accepted == drafted
            if self.straight and same_window:
                told["same_shape"] += 1
                assert np.array_equal(found, wanted), f"other bits at position {self.pos}"
            told["refused"] += drafted - accepted
            self.worst = max(self.worst, float(np.abs(found - wanted).max()))
            self.last = int(out[accepted])
            self.pos += accepted + 1
            self.steps += 1

        @rule(count=st.integers(1, 24), accepted=st.integers(0, 3))
        def run(self, count: int, accepted: int) -> None:
            for _ in range(count):
                self.step(3, accepted)

        @invariant()
        def agrees(self) -> None:
            worst = getattr(self, "worst", 0.0)
            told["worst"] = max(told["worst"], worst)
            assert worst <= asked["bound"], f"logits differ by {worst} at position {self.pos}"

        def teardown(self) -> None:
            told["steps"] += self.steps
            told["deepest"] = max(told["deepest"], self.pos)

    return Rollback


def main() -> int:
    asked = json.load(sys.stdin)
    recipe = Recipe(asked["window"], tuple(asked["full_layers"])) if asked["window"] else None
    context = ContextOptions(
        n_ctx=N_CTX, n_batch=512, n_ubatch=asked["n_ubatch"], n_threads=1,
        type_k=asked["type_k"], type_v=asked["type_v"],
    )  # fmt: skip
    told: dict[str, Any] = {"steps": 0, "refused": 0, "deepest": 0, "worst": 0.0, "same_shape": 0}
    library = open_library(load(Path(asked["manifest"])))
    with Session(library, Path(asked["model"]), SessionOptions(context, recipe, N_MAX)) as session:
        found = machine(session, Twin(session, asked), asked, told)
        chosen = settings(
            max_examples=asked["examples"], stateful_step_count=asked["rules"], deadline=None, database=None,
            derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        run_state_machine_as_test(found, settings=chosen)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
