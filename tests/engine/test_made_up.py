"""A generation whose acceptance is made up token for token: the steps are real, what is accepted is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.generate import Limits, Run
from llamacpp_tools.engine.rehearsal import made_up
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import open_library

pytestmark = pytest.mark.build


@pytest.mark.parametrize("length", [1, 3])
def test_each_step_accepts_what_the_text_says_of_its_first_token(
    patched: Build, tiny: Path, length: int
) -> None:
    library, n_predict = open_library(patched), 80
    runs = tuple(made_up(lambda token, _: 0.2 if token < 40 else 0.9, n_predict, 1, limit=3))
    options = SessionOptions(ContextOptions(n_ctx=256, n_threads=1), n_max=length, ignore_eos=True)
    with Session(library, tiny, options) as session:
        filled = session.fill(range(100, 140))
        run = Run(session.decoder, filled, Limits(n_predict, length, runs=runs), library.ffi)
        for _ in run:
            pass
    done, at = run.done, 0
    for drafted, accepted in zip(done.step_drafted, done.step_accepted, strict=True):
        assert accepted == min(drafted, runs[at])
        at += accepted + 1
    assert len(done.tokens) == n_predict == at + 1
    assert sum(done.step_accepted) > 20
