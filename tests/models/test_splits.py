"""Models in several files, written by the `gguf` package, and what must not pass for one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import sha256_file
from llamacpp_tools.models.digest import model_sha256
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature

from .parts import split
from .test_header import BASE, STR, U32, pack, pack_tensor

KEYS = dict[str, tuple[int, object]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return split(miniature(), tmp_path_factory.mktemp("parts"), 100)


def test_any_part_stands_for_the_whole(parts: list[Path]) -> None:
    assert [path.name for path in parts] == [f"model-{at:05d}-of-00003.gguf" for at in (1, 2, 3)]
    whole = check_gguf(miniature())
    for path in parts:
        header = check_gguf(path)
        assert header.path == path
        assert header.files == tuple(parts)
        assert (header.arch, header.n_layer_nextn, header.n_vocab) == (whole.arch, 1, whole.n_vocab)
        assert [(t.name, t.dims, t.n_bytes) for t in header.tensors] == [
            (t.name, t.dims, t.n_bytes) for t in whole.tensors
        ]
        assert header.file_size == sum(each.stat().st_size for each in parts)


def test_each_tensor_is_found_in_its_part(parts: list[Path]) -> None:
    whole, header = check_gguf(miniature()), check_gguf(parts[1])
    data = [path.read_bytes() for path in parts]
    original = miniature().read_bytes()
    assert {tensor.part for tensor in header.tensors} == {0, 1, 2}
    for theirs, ours in zip(whole.tensors, header.tensors, strict=True):
        begin = header.parts[ours.part].data_offset + ours.offset
        first = whole.parts[0].data_offset + theirs.offset
        assert data[ours.part][begin : begin + ours.n_bytes] == original[first : first + theirs.n_bytes], (
            ours.name
        )


def test_the_digest_is_that_of_all_parts_in_order(home: Path, parts: list[Path]) -> None:
    found = model_sha256(*check_gguf(parts[2]).files)
    assert found == sha256_file(*parts) != model_sha256(parts[0])
    assert found == model_sha256(*parts)


@pytest.fixture
def three(tmp_path: Path) -> Callable[..., Path]:
    """Writes three parts of two tensors each; keys may be changed by part. Returns the first."""

    def write(changes: dict[int, KEYS] | None = None, names: dict[int, str] | None = None) -> Path:
        paths = []
        for no in range(3):
            keys: KEYS = {"split.no": (U32, no), "split.count": (U32, 3), "split.tensors.count": (U32, 3)}
            keys = ({**BASE} if no == 0 else {}) | keys | (changes or {}).get(no, {})
            path = tmp_path / (names or {}).get(no, f"m-{no + 1:05d}-of-00003.gguf")
            name = "t0" if keys.pop("twice", None) else f"t{no}"
            path.write_bytes(pack(keys, (pack_tensor(name),), 128))
            paths.append(path)
        return paths[0]

    return write


def test_three_sound_parts(three: Callable[..., Path]) -> None:
    assert [tensor.name for tensor in check_gguf(three()).tensors] == ["t0", "t1", "t2"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({1: {"split.no": (U32, 2)}}, "by its name it is part 2 of 3, by its own metadata part 3 of 3"),
        ({1: {"split.count": (U32, 4)}}, "by its name it is part 2 of 3, by its own metadata part 2 of 4"),
        ({1: {"split.count": (U32, 0)}}, "by its own metadata no part of a model"),
        ({0: {"split.no": (U32, 3)}}, "it is part 4 of 3"),
        ({0: {"split.no": (STR, "0")}}, "split.no is '0'"),
        ({0: {"split.count": (STR, "3")}}, "split.count is '3'"),
        ({0: {"split.count": (U32, 1 << 20)}}, "split.count is 1048576"),
        ({0: {"split.tensors.count": (U32, 4)}}, "it announces 4 tensors in 3 parts, and 3 are there"),
        ({2: {"split.tensors.count": (U32, 2)}}, "it announces 2 tensors in 3 parts, and 3 are there"),
        ({2: {"twice": (U32, 1)}}, "tensor 't0' is in m-00001-of-00003.gguf, too"),
    ],
)
def test_parts_that_contradict_each_other(
    three: Callable[..., Path], changes: dict[int, KEYS], says: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        check_gguf(three(changes))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_parts_are_named(three: Callable[..., Path]) -> None:
    first = three()
    second, third = (first.with_name(f"m-{at:05d}-of-00003.gguf") for at in (2, 3))
    third.unlink()
    with pytest.raises(
        BadInput, match=r"is part 2 of 3 of a model, and m-00003-of-00003\.gguf is not beside it"
    ):
        check_gguf(second)
    first.unlink()
    with pytest.raises(BadInput, match=r"m-00001-of-00003\.gguf, m-00003-of-00003\.gguf are not beside it"):
        check_gguf(second)


def test_a_part_that_was_renamed_says_what_it_must_be_called(three: Callable[..., Path]) -> None:
    renamed = three(names={0: "model.gguf"})
    with pytest.raises(
        BadInput, match=r"its name does not end in -00001-of-00003\.gguf: give it its name back"
    ):
        check_gguf(renamed)


def test_a_part_that_is_cut_is_named(three: Callable[..., Path]) -> None:
    first = three()
    second = first.with_name("m-00002-of-00003.gguf")
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"m-00002-of-00003\.gguf is cut short: .* 100 are missing"):
        check_gguf(first)


def test_a_first_part_without_tensors_as_gguf_split_may_write_it(tmp_path: Path) -> None:
    keys: KEYS = {"split.no": (U32, 0), "split.count": (U32, 2), "split.tensors.count": (U32, 1)}
    first = tmp_path / "m-00001-of-00002.gguf"
    first.write_bytes(pack({**BASE, **keys}))
    second = tmp_path / "m-00002-of-00002.gguf"
    second.write_bytes(pack({**keys, "split.no": (U32, 1)}, (pack_tensor("t"),), 128))
    assert [(tensor.name, tensor.part) for tensor in check_gguf(second).tensors] == [("t", 1)]


def test_a_count_of_one_is_a_whole_model(tmp_path: Path) -> None:
    path = tmp_path / "any.gguf"
    path.write_bytes(pack({**BASE, "split.count": (U32, 1), "split.no": (U32, 0)}))
    assert check_gguf(path).files == (path,)


def test_split_numbers_of_any_width(tmp_path: Path) -> None:
    u16 = 2
    for no in (0, 1):
        keys: KEYS = {"split.no": (u16, struct.pack("<H", no)), "split.count": (u16, struct.pack("<H", 2))}
        keys |= {"split.tensors.count": (U32, 2)}
        path = tmp_path / f"m-0000{no + 1}-of-00002.gguf"
        path.write_bytes(pack(({**BASE} if no == 0 else {}) | keys, (pack_tensor(f"t{no}"),), 128))
    assert check_gguf(path).n_tensors == 2
