from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import PATCHES, Llt


def test_list_shows_every_reason(llt: Llt) -> None:
    done = llt("patches", "list")
    assert done.returncode == 0, done.stderr
    for word in ("amx-tile-config", "drop when", "check", "upstream", "src/models/qwen35moe.cpp"):
        assert word in done.stdout


def test_list_as_json(llt: Llt) -> None:
    done = llt("patches", "list", "--json")
    document = json.loads(done.stdout)
    assert len(document["head"]) == 40
    assert document["reaches"]
    assert len(document["patches"]) == len(list(PATCHES.glob("*.patch")))
    for entry in document["patches"]:
        assert all(entry[key] for key in ("name", "file", "why", "upstream", "drop_when", "paths", "check"))


def damaged(tmp_path: Path) -> Path:
    """Our own series with a hunk that counts too few lines, which is seen without upstream's source."""
    folder = tmp_path / "patches"
    shutil.copytree(PATCHES, folder)
    path = folder / "0001-ggml-cpu-keep-the-amx-tile-configuration.patch"
    path.write_bytes(path.read_bytes().replace(b"-220,6 +220,7", b"-220,5 +220,6"))
    (folder / "0009-left.patch").write_bytes(b"")
    text = (folder / "upstream.yaml").read_text()
    lines = ["remote: nowhere" if line.startswith("remote:") else line for line in text.splitlines()]
    (folder / "upstream.yaml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def no_source(tmp_path: Path) -> dict[str, str]:
    """No upstream in reach: an empty home, and no npm that could fetch it."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    git = shutil.which("git")
    assert git is not None
    (bin_dir / "git").symlink_to(git)
    return {"LLT_HOME": str(tmp_path / "home"), "PATH": str(bin_dir)}


def test_audit_tells_all_and_ends_with_1(llt: Llt, tmp_path: Path, no_source: dict[str, str]) -> None:
    done = llt("patches", "audit", "--patches", damaged(tmp_path), env=no_source)
    assert done.returncode == 1, done.stderr
    assert "keep-the-amx-tile-configuration.patch:26:" in done.stdout
    assert "[hunk-count]" in done.stdout
    assert "0009-left.patch: is not named in series.yaml" in done.stdout
    assert done.stderr.startswith("llt: ")
    assert "Traceback" not in done.stderr


def test_audit_as_json(llt: Llt, tmp_path: Path, no_source: dict[str, str]) -> None:
    done = llt("patches", "audit", "--json", "--patches", damaged(tmp_path), env=no_source)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["good"] is False
    assert {"hunk-count", "stray"} <= {each["rule"] for each in document["findings"]}


def test_audit_without_a_source_ends_with_3(llt: Llt, tmp_path: Path, no_source: dict[str, str]) -> None:
    folder = damaged(tmp_path)
    shutil.copytree(PATCHES, folder, dirs_exist_ok=True)
    (folder / "0009-left.patch").unlink()
    text = (folder / "upstream.yaml").read_text().replace("https://", "nowhere://")
    (folder / "upstream.yaml").write_text(text)
    done = llt("patches", "audit", "--patches", folder, env=no_source)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "--source" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("--drop", "mtp-iswa"), 2, "needs --reason"),
        (("--onto", "v0.5.0"), 2, "--out"),
        ((), 1, "llt rebase"),
    ],
)
def test_refresh_refuses_in_one_sentence(
    llt: Llt, tmp_path: Path, words: tuple[str, ...], status: int, why: str
) -> None:
    done = llt("patches", "refresh", *words, env={"LLT_HOME": str(tmp_path / "home")})
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("llt: ")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["list", "audit", "refresh"])
def test_help_has_an_example(llt: Llt, verb: str) -> None:
    done = llt("patches", verb, "--help")
    assert done.returncode == 0
    assert f"Example: llt patches {verb}" in done.stdout
