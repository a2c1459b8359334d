"""The MTP block as a file: its bytes, and what is refused. That it drafts is in `tests/engine/test_draft_model.py`."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.models import extract as module
from llamacpp_tools.models.extract import extract_mtp
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.reshape import reshaped
from llamacpp_tools.models.shapes import shape_named
from llamacpp_tools.models.synth import synth, synth_header

from .parts import split, without_mtp


def test_tensors_and_keys_are_those_of_the_model(tmp_path: Path) -> None:
    result = extract_mtp(miniature(), tmp_path / "mtp.gguf")
    whole, made = gguf.GGUFReader(miniature()), gguf.GGUFReader(result.path)
    theirs = {tensor.name: tensor for tensor in whole.tensors}
    ours = {tensor.name: tensor for tensor in made.tensors}
    assert tuple(ours) == result.tensors
    assert {name for name in theirs if not name.startswith("blk.") or name.startswith("blk.12.")} == set(ours)
    for name, tensor in ours.items():
        assert tensor.tensor_type == theirs[name].tensor_type
        assert tensor.shape.tolist() == theirs[name].shape.tolist()
        assert np.array_equal(tensor.data, theirs[name].data), name
    assert list(made.fields) == list(whole.fields)
    for name, field in whole.fields.items():
        if name != "GGUF.tensor_count":
            assert made.fields[name].contents() == field.contents(), name
            assert made.fields[name].types == field.types, name


def test_what_is_said_of_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = extract_mtp(miniature(), tmp_path / "mtp.gguf", lambda done, total: seen.append((done, total)))
    size = result.path.stat().st_size
    assert (result.blocks, result.n_bytes) == ((12,), size)
    shared = {tensor.name: tensor.n_bytes for tensor in check_gguf(result.path).tensors}
    assert result.shared_bytes == sum(
        shared[n] for n in ("token_embd.weight", "output_norm.weight", "output.weight")
    )
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    header = check_gguf(result.path)
    assert not header.has_trunk
    assert (header.n_layer, header.n_layer_nextn) == (12, 1)


def test_a_split_model_gives_the_same_file(tmp_path: Path) -> None:
    whole = extract_mtp(miniature(), tmp_path / "a.gguf")
    for part in split(miniature(), tmp_path, 60):
        again = extract_mtp(part, tmp_path / "b.gguf")
        ours, theirs = gguf.GGUFReader(again.path), gguf.GGUFReader(whole.path)
        assert again.tensors == whole.tensors
        assert not [name for name in ours.fields if name.startswith("split.")]
        assert set(ours.fields) == set(theirs.fields)
        for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
            assert np.array_equal(mine.data, other.data), mine.name


def test_a_model_without_a_head_is_refused(tmp_path: Path, tiny_next: Path) -> None:
    out = tmp_path / "mtp.gguf"
    trunk = without_mtp(miniature(), tmp_path / "trunk.gguf")
    with pytest.raises(
        BadInput, match=r"has no MTP block \(qwen35moe.nextn_predict_layers is 0 or missing\)"
    ):
        extract_mtp(trunk, out)
    with pytest.raises(
        BadInput, match=r"is of architecture qwen3next; llama.cpp drafts with the MTP block of"
    ):
        extract_mtp(tiny_next, out)
    head = extract_mtp(miniature(), tmp_path / "head.gguf").path
    with pytest.raises(BadInput, match="nothing but an MTP block: it can be used as it is"):
        extract_mtp(head, out)
    assert not out.exists()


def test_a_head_that_is_announced_and_was_dropped(tmp_path: Path) -> None:
    header = check_gguf(miniature())
    data = miniature().read_bytes().replace(b"blk.12.nextn.eh_proj.weight", b"blk.12.nextn.xx_proj.weight")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data)
    with pytest.raises(BadInput, match=r"lacks its tensor blk\.12\.nextn\.eh_proj\.weight"):
        extract_mtp(broken, tmp_path / "mtp.gguf")
    assert check_gguf(broken).n_tensors == header.n_tensors


def test_a_bad_file_or_target_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(miniature().read_bytes()[:-5000])
    with pytest.raises(BadInput, match="is cut short"):
        extract_mtp(cut, tmp_path / "mtp.gguf")
    with pytest.raises(BadInput, match="is a folder"):
        extract_mtp(miniature(), tmp_path)
    same = tmp_path / "same.gguf"
    same.write_bytes(miniature().read_bytes())
    with pytest.raises(BadInput, match="is the model itself; name another file"):
        extract_mtp(same, tmp_path / "x" / ".." / "same.gguf")
    with pytest.raises(BadInput, match="cannot be written"):
        extract_mtp(miniature(), same / "mtp.gguf")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(MissingTool, match="only 0 MiB are free there"):
        extract_mtp(miniature(), tmp_path / "mtp.gguf")
    assert not (tmp_path / "mtp.gguf").exists()
    assert not list(tmp_path.glob(".mtp*"))


def test_a_file_that_shrinks_while_it_is_read_is_a_sentence(tmp_path: Path) -> None:
    shape = reshaped(shape_named("tiny"), {"n_layer": 4, "n_vocab": 8192, "n_embd": 512})
    source = synth(shape, tmp_path / "model.gguf").path

    def shrink(done: int, total: int) -> None:
        with source.open("rb+") as file:
            file.truncate(source.stat().st_size // 4)

    with pytest.raises(BadInput, match="was cut short while it was read"):
        extract_mtp(source, tmp_path / "mtp.gguf", shrink)
    assert not (tmp_path / "mtp.gguf").exists()


def test_memory_stays_small_whatever_the_model(tmp_path: Path) -> None:
    shape = reshaped(shape_named("qwen3.6-35b-a3b"), {"n_expert": 64, "n_vocab": 32768})
    source = synth_header(shape, tmp_path / "model.gguf").path
    assert source.stat().st_size > 4e9
    child = (
        "import resource, sys; from pathlib import Path; from llamacpp_tools.models.extract import extract_mtp\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "made = extract_mtp(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(made.n_bytes, (after - before) * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, source, tmp_path / "mtp.gguf"],
        capture_output=True,
        text=True,
        check=True,
    )
    n_bytes, grown = map(int, done.stdout.split())
    (tmp_path / "mtp.gguf").unlink()
    assert n_bytes > 150e6
    assert grown < 60e6
