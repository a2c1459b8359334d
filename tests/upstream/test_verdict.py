"""What a run of upstream's tests is taken for; the runs themselves are `make upstream-tests`."""

from __future__ import annotations

import http.client
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.upstream import __main__ as upstream
from tests.upstream.__main__ import line, verdict
from tests.upstream.programs import Case, judge
from tests.upstream.website import ggml_ai

ROWS = "|qwen35|CPU|\x1b[1;32mOK\x1b[0m (1e-9)|\x1b[1;32mOK\x1b[0m|\n|x|Meta|\x1b[1;33mSKIP\x1b[0m|\n"


def test_a_pass_needs_the_status_and_the_words() -> None:
    good = judge(0, f"begin\n{ROWS}all done\n", "all done", 1.0)
    assert good.passed
    assert good.detail == "2 OK, 1 SKIP"
    skipped = judge(0, "skipping for non-recurrent model\n", "all done", 1.0)
    assert not skipped.passed
    assert "never 'all done'" in skipped.detail
    assert "skipping for non-recurrent model" in skipped.detail


@pytest.mark.parametrize(
    ("status", "words"), [(1, "status 1"), (-6, "killed by SIGABRT"), (None, "no end after 7 s")]
)
def test_a_failure_says_how(status: int | None, words: str) -> None:
    bad = judge(status, "all done\n", "all done", 7.0)
    assert not bad.passed
    assert bad.detail.startswith(words)
    assert line(bad).startswith("FAIL")


def test_only_what_the_series_breaks_counts() -> None:
    assert verdict(stock=True, patched=False)[1]
    assert [verdict(*both)[1] for both in ((True, True), (False, True), (False, False))] == [False] * 3
    assert len({verdict(stock, patched)[0] for stock in (True, False) for patched in (True, False)}) == 4


@pytest.mark.parametrize("broken", ["nothing", "stock", "patched"])
def test_the_exit_status_is_the_series_fault_only(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def built(tree: str, _found: object) -> SimpleNamespace:
        program = tmp_path / tree
        ending = "kill -ABRT $$" if tree == broken else "echo the words"
        program.write_text(f"#!/bin/sh\necho begun\n{ending}\n")
        program.chmod(0o755)
        return SimpleNamespace(
            folder=tmp_path, tool=lambda _name: program, manifest=SimpleNamespace(pin="b9842")
        )

    monkeypatch.setattr(upstream, "built", built)
    monkeypatch.setattr(upstream, "CASES", (Case("a case", "a-program", "the words"),))
    monkeypatch.setattr(upstream, "ggml_ai", lambda *_: nullcontext({}))
    monkeypatch.setattr("llamacpp_tools.build.toolchain.require", lambda _backend: SimpleNamespace(cc="cc"))
    assert upstream.main() == (1 if broken == "patched" else 0)
    told = capsys.readouterr().out
    assert told.count("pass  ") == (2 if broken == "nothing" else 1)
    assert ("killed by SIGABRT; last said: begun; all of it: " in told) == (broken != "nothing")


def test_the_pages_are_served_on_this_machine(tmp_path: Path) -> None:
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("no C compiler")
    with ggml_ai(cc, tmp_path) as env:
        assert Path(env["LD_PRELOAD"]).is_file()
        for path, status in (("/", 200), ("/404", 404)):
            client = http.client.HTTPConnection("127.0.0.1", int(env["LLT_GGML_AI_PORT"]), timeout=10)
            client.request("GET", path)
            answer = client.getresponse()
            assert answer.status == status
            assert b"llama.cpp" in answer.read()
            client.close()
