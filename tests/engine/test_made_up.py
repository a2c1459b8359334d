"""A generation whose acceptance is made up token for token: the steps are real, what is accepted is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build

from .conftest import decodes

pytestmark = pytest.mark.build


def test_each_step_accepts_what_the_text_says_of_its_first_token(patched: Build, tiny: Path) -> None:
    found = decodes("given", patched, tiny)
    for text in found["texts"]:
        at = 0
        for drafted, accepted in text["steps"]:
            assert accepted == min(drafted, found["runs"][at])
            at += accepted + 1
        assert text["tokens"] == found["n_predict"] == at + 1
        assert sum(accepted for _, accepted in text["steps"]) > 20
