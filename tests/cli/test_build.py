"""`llt build`: what it calls a build, so that none takes another's place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llamacpp_tools.build import build as builds
from llamacpp_tools.build.options import BuildOptions
from llamacpp_tools.cli.main import run
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack import rebase
from tests.conftest import PATCHES


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A copy of the series, and one for another version below it."""
    shutil.copytree(PATCHES, tmp_path / "patches")
    below = tmp_path / "patches" / "v0.5.0"
    shutil.copytree(PATCHES, below, ignore=shutil.ignore_patterns("upstream.yaml"))
    text = (below / "series.yaml").read_text()
    assert "\nupstream: b9842\n" in text
    (below / "series.yaml").write_text(text.replace("\nupstream: b9842\n", "\nupstream: v0.5.0\n"))
    return tmp_path / "patches"


@pytest.mark.parametrize(
    ("folder", "words", "name"),
    [
        (".", (), "patched"),
        (".", ("--onto", "b9842"), "patched"),
        (".", ("--onto", "v0.5.0"), "patched-onto-v0.5.0"),
        ("v0.5.0", (), "patched-onto-v0.5.0"),
        ("v0.5.0", ("--without", "small-graphs"), "patched-without-small-graphs-onto-v0.5.0"),
        ("v0.5.0", ("--onto", "b9842"), "patched"),
    ],
)
def test_a_build_of_another_version_is_called_otherwise_than_the_pins(
    series: Path, monkeypatch: pytest.MonkeyPatch, folder: str, words: tuple[str, ...], name: str
) -> None:
    asked: list[str] = []

    def told(_stack: object, options: BuildOptions, *_: object) -> None:
        asked.append(options.variant)
        raise CheckFailed("far enough")

    monkeypatch.setattr(rebase, "rebase", lambda *_: None)
    monkeypatch.setattr(builds, "build", told)
    assert run(["build", "--patches", str(series / folder), *words]) == 1
    assert asked == [name]
