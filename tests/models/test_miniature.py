from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.models import miniature as shipped
from llamacpp_tools.models.ballast import Ballast, cost
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature


def test_the_miniature_in_the_package_is_the_one_that_was_shipped() -> None:
    header = check_gguf(miniature())
    assert (header.arch, header.n_layer_nextn) == ("qwen35moe", 1)
    assert len(header.full_attention_layers) >= 2
    assert header.n_ctx_train >= 8192
    assert header.file_size <= 8_000_000


def test_a_draft_step_reads_less_than_a_third_of_what_a_step_of_the_trunk_reads() -> None:
    found = cost(miniature())
    assert found.draft_weights < 0.3 * found.weights


def test_a_damaged_miniature_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "miniature.gguf"
    damaged.write_bytes(miniature().read_bytes()[:-1] + b"x")
    monkeypatch.setattr(shipped, "PATH", damaged)
    with pytest.raises(CheckFailed, match="is not the miniature that ships with llt"):
        miniature()
    damaged.unlink()
    with pytest.raises(CheckFailed, match="missing"):
        miniature()


def test_with_ballast_it_is_written_once_and_kept(home: Path) -> None:
    path = miniature(Ballast(8_000_000, 700))
    before = path.stat().st_mtime_ns
    assert path.parent == home / "models"
    assert miniature(Ballast(8_000_000, 700)) == path
    assert path.stat().st_mtime_ns == before
    assert cost(path).weights >= 8_000_000
    assert miniature(Ballast()) == shipped.PATH
    with pytest.raises(BadInput, match="KV elements for each token already"):
        miniature(Ballast(kv=100))
