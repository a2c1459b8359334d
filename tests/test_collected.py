"""That no test is left out by where it lies."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_every_folder_with_tests_is_walked_into(pytestconfig: pytest.Config) -> None:
    # pytest's default leaves out folders named build, and so tests/build was never run with the others.
    folders = {part for path in TESTS.rglob("test_*.py") for part in path.relative_to(TESTS).parts[:-1]}
    assert "build" in folders
    left_out = [
        name for name in folders for each in pytestconfig.getini("norecursedirs") if fnmatch(name, each)
    ]
    assert left_out == []
