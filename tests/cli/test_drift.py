from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools.cli import drift as verb
from llamacpp_tools.cli.main import run
from llamacpp_tools.home import shipped
from llamacpp_tools.stack.series import load_series
from tests.stack.conftest import BASE, Upstream, edit, patches, upstream
from tests.stack.test_apply import Edit, Write, two_patches

__all__ = ["edit", "patches", "upstream"]

Call = Callable[..., int]


@pytest.fixture
def call(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> Call:
    folder = patches(two_patches(upstream, edit))
    upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 2, "harmless [b]|")}, "Touch [b] | a")
    return lambda *words: run(["drift", "--patches", str(folder), *map(str, words)])


def test_json_is_one_document_and_exit_0_if_the_series_applies(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--to", "master", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["steps"], told["complete"]) == ("history", 2, True)
    assert [each["status"] for each in told["patches"]] == ["clean", "clean"]
    assert told["patches"][0]["heat"][0]["subject"] == "Touch [b] | a"
    assert told["newest_clean"] == told["to"]


def test_exit_1_and_a_sentence_after_the_report_if_it_does_not(
    call: Call, upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    before = upstream.git.text("rev-parse", "--short=12", "HEAD")
    upstream.commit({"src/b.txt": "all new\n"}, "Rewrite b")
    assert call("--to", "master") == 1
    out, err = capsys.readouterr()
    assert "Touch [b] | a" in " ".join(out.split())
    assert (
        f"llt: 1 of 2 patches do not apply at {upstream.git.text('rev-parse', '--short=12', 'HEAD')} (second);"
        f" the whole series applies up to {before}"
    ) in err


def test_the_report_is_written_in_both_forms(
    call: Call, tmp_path: Path, upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "out" / name for name in ("drift.json", "drift.md")]
    assert call("--to", "master", "--json", "--out", files[0], "--out", files[1]) == 0
    assert files[0].read_text() == capsys.readouterr().out
    text = files[1].read_text()
    assert "# Drift of the series from v1 to" in text
    assert "| first | clean | never | - |" in text
    assert "Touch [b] \\| a" in text


def test_a_report_of_another_kind_and_a_source_that_is_nothing_are_exit_2(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--out", tmp_path / "drift.txt") == 2
    assert call("--to", "master", "--source", "not-there") == 2
    assert "no such folder or bundle file" in capsys.readouterr().err


def test_the_committed_report_is_whole() -> None:
    for path in sorted((Path(__file__).parents[2] / "results" / "drift").glob("*.json")):
        told = json.loads(path.read_text())
        assert [version["label"] for version in told["versions"]][:: len(told["versions"]) - 1] == [
            told["pin"]["label"],
            told["to"]["label"],
        ]
        assert path.with_suffix(".md").read_text() == verb.markdown(told)


def test_the_newest_report_is_of_this_series_and_shows_how_far_it_reaches() -> None:
    newest = max((Path(__file__).parents[2] / "results" / "drift").glob("*.json"))
    told = json.loads(newest.read_text())
    series = load_series(shipped("patches"))
    assert told["series_digest"] == series.digest, f"run llt drift again and write {newest.name}"
    assert told["newest_clean"]["label"] == series.reaches
    assert told["complete"] == (series.reaches == told["to"]["label"])
