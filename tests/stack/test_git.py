from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from llamacpp_tools.errors import MissingTool
from llamacpp_tools.stack import remote
from llamacpp_tools.stack.git import Git, GitFailed, GitResult
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.stack import check
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import Upstream
from .test_apply import Edit, Write, two_patches


def test_a_call_that_has_to_work_raises_with_what_git_said(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="not a git repository"):
        Git(tmp_path).run("log")


def test_a_broken_clone_never_makes_git_walk_up(tmp_path: Path) -> None:
    Git(tmp_path).run("init", "--quiet", ".")
    inner = tmp_path / "inner"
    (inner / ".git").mkdir(parents=True)
    assert not Git(inner).run("status", check=False).ok


def test_a_remote_that_never_answers_costs_seconds(
    home: Path,
    tmp_path: Path,
    upstream: Upstream,
    edit: Edit,
    patches: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = patches(two_patches(upstream, edit))
    monkeypatch.setattr(remote, "ANSWER_S", 1.0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/x.git"
        file = folder / "upstream.yaml"
        file.write_text(file.read_text().replace(str(upstream.folder), url))
        begun = time.monotonic()
        with pytest.raises(
            MissingTool, match=r"no answer within 1 s.*name a clone or a bundle with --source"
        ):
            check(load_upstream(folder), load_series(folder))
        # Without the kill of git's own helper this would wait as long as the remote is silent.
        assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("fatal: bad object\nhint: look elsewhere\n", "fatal: bad object"),
        (
            "lab@host: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\n"
            "Please make sure you have the correct access rights\nand the repository exists.\n",
            "lab@host: Permission denied (publickey).",
        ),
        ("fatal: Could not read from remote repository.\n", "fatal: Could not read from remote repository."),
        ("", ""),
    ],
)
def test_the_reason_is_the_line_that_helps(said: str, reason: str) -> None:
    assert GitResult(128, b"", said).reason == reason


def test_git_hears_of_the_ssh_agent_and_of_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("LLT_TEST_TOKEN", "secret")
    told = Git(tmp_path).run("-c", "alias.env=!env", "env").text.splitlines()
    assert "SSH_AUTH_SOCK=/run/agent" in told
    assert not [line for line in told if line.startswith("LLT_TEST_TOKEN=")]
