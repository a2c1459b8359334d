"""`check_gguf` on real headers, on files cut at any byte, and on files made to hurt."""

from __future__ import annotations

import dataclasses
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import GgufHeader, check_gguf
from llamacpp_tools.models.shapes import SHAPES
from llamacpp_tools.models.synth import synth

SMALL = dataclasses.replace(
    SHAPES["tiny"], name="small", n_layer=4, n_embd=64, n_expert=2, n_ff_exp=32, n_ff_shexp=32
)
U32, I32, STR, ARR = 4, 5, 8, 9
BASE: dict[str, tuple[int, object]] = {
    "general.architecture": (STR, "llama"),
    "llama.block_count": (U32, 2),
    "llama.embedding_length": (U32, 64),
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pack_keys(keys: dict[str, tuple[int, object]]) -> bytes:
    packed = b""
    for key, (kind, value) in keys.items():
        if kind == STR:
            body = text(str(value))
        else:
            body = value if isinstance(value, bytes) else struct.pack("<i" if kind == I32 else "<I", value)
        packed += text(key) + struct.pack("<i", kind) + body
    return packed


def pack_tensor(name: str = "a", dims: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}qiQ", len(dims), *dims, kind, offset)


def pack(
    keys: dict[str, tuple[int, object]] | None = None,
    tensors: tuple[bytes, ...] = (),
    data: int = 0,
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    keys = BASE if keys is None else keys
    counts = (len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys)
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + pack_keys(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth(SMALL, tmp_path_factory.mktemp("header") / "small.gguf").path


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    """Writes the bytes, checks that they are refused in one sentence that names the file, returns it."""

    def refuse(data: bytes) -> str:
        path = tmp_path / "bad.gguf"
        path.write_bytes(data)
        with pytest.raises(BadInput) as refusal:
            check_gguf(path)
        sentence = str(refusal.value)
        assert sentence.startswith(str(path))
        assert "\n" not in sentence
        return sentence

    return refuse


@pytest.mark.parametrize("name", ["tiny", "tiny-dense", "tiny-next"])
def test_round_trip_of_a_synthetic_model(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    result = synth(shape, tmp_path / "model.gguf")
    header = check_gguf(result.path)
    n_all = shape.n_layer + shape.n_nextn
    assert header == GgufHeader(
        path=result.path, arch=shape.arch, name=f"{name} (random weights, seed 0)", n_layer=8,
        n_layer_nextn=shape.n_nextn, n_embd=256, n_ctx_train=262144, n_vocab=512, n_expert=shape.n_expert,
        n_expert_used=shape.n_expert_used, n_head=(4,) * n_all, n_head_kv=(2,) * n_all, head_dim_k=64,
        head_dim_v=64, ssm_d_conv=4, ssm_d_inner=256, ssm_d_state=64, ssm_n_group=2, ssm_dt_rank=4,
        full_attention_layers=(3, 7), recurrent_layers=(0, 1, 2, 4, 5, 6), tensors=header.tensors,
        metadata=header.metadata, parts=header.parts,
    )  # fmt: skip
    assert header.n_params == result.n_params
    assert header.files == (result.path,)
    assert header.file_size == result.n_bytes
    assert header.has_trunk


def test_tensors_and_metadata_are_what_another_reader_finds(small: Path) -> None:
    header, reader = check_gguf(small), gguf.GGUFReader(small)
    start = header.parts[0].data_offset
    assert [(t.name, t.dims, t.type_name, start + t.offset, t.n_bytes) for t in header.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name.lower(), t.data_offset, t.n_bytes)
        for t in reader.tensors
    ]
    for key, value in header.metadata.items():
        expected = reader.fields[key].contents()
        assert value == (tuple(expected) if isinstance(expected, list) else expected), key
    assert len(header.metadata) == len(reader.fields) - 3  # the reader counts version and the two counts too


@settings(max_examples=300, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(small: Path, share: float) -> None:
    whole = small.read_bytes()
    cut = small.with_name("cut.gguf")
    # The header is a small part of the file: half of the cuts go there.
    header_end = check_gguf(small).parts[0].data_offset
    at = int(share * 2 * header_end) if share < 0.5 else int((share - 0.5) * 2 * len(whole))
    cut.write_bytes(whole[:at])
    with pytest.raises(BadInput) as refusal:
        check_gguf(cut)
    assert str(refusal.value).startswith(str(cut))


def test_a_cut_file_says_how_much_is_missing(small: Path, refused: Callable[[bytes], str]) -> None:
    whole = small.read_bytes()
    assert f"need {len(whole)} bytes, 1000 are missing" in refused(whole[:-1000])


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_header_never_breaks(small: Path, flips: list[tuple[float, int]]) -> None:
    data = bytearray(small.read_bytes())
    end = check_gguf(small).parts[0].data_offset
    for share, value in flips:
        data[int(share * end)] = value
    damaged = small.with_name("damaged.gguf")
    damaged.write_bytes(data)
    try:
        header = check_gguf(damaged)
    except BadInput as refusal:
        assert str(refusal).startswith(str(damaged))
    else:
        assert header.n_layer >= 1


@settings(max_examples=300, deadline=None)
@given(tail=st.binary(max_size=400))
def test_noise_behind_the_magic_never_breaks(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + tail)
    with pytest.raises(BadInput):
        check_gguf(path)


def test_what_is_no_gguf_file(tmp_path: Path, refused: Callable[[bytes], str]) -> None:
    assert "empty" in refused(b"")
    assert "does not begin with the letters GGUF" in refused(b"PK\x03\x04" + bytes(100))
    assert "cut short" in refused(b"GGUF")
    with pytest.raises(BadInput, match="does not exist; name a GGUF file"):
        check_gguf(tmp_path / "none.gguf")
    with pytest.raises(BadInput, match="is a folder"):
        check_gguf(tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        check_gguf(Path("a\0b"))
    with pytest.raises(BadInput, match="cannot be read"):
        check_gguf(tmp_path / "bad.gguf" / "x.gguf")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match="not a regular file"):
        check_gguf(pipe)


def test_a_path_is_named_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^models/none\.gguf does not exist"):
        check_gguf(Path("models/none.gguf"))


@pytest.mark.parametrize("version", [0, 1, 4, 999])
def test_other_versions(refused: Callable[[bytes], str], version: int) -> None:
    assert f"its version is {version}, this reads 2 and 3" in refused(pack(version=version))


def test_the_other_byte_order(refused: Callable[[bytes], str]) -> None:
    assert "byte order" in refused(pack(version=3 << 24))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pack(n_keys=1 << 62), "claims 4611686018427387904 metadata keys"),
        (pack(n_tensors=1 << 62), "claims 4611686018427387904 tensors"),
        (pack(n_tensors=60_000), "cut short"),
        (pack(n_keys=60_000), "cut short"),
        (pack({**BASE, "x": (ARR, struct.pack("<iQ", U32, 1 << 61))}), "cut short"),
        (pack({**BASE, "x": (ARR, struct.pack("<iQ", STR, 1 << 61))}), "claims 2305843009213693952 texts"),
        (pack({**BASE, "x": (ARR, struct.pack("<iQ", STR, 1 << 20))}), "cut short"),
        (pack({**BASE, "x": (ARR, struct.pack("<iQ", ARR, 1))}), "unknown type 9"),
        (pack({**BASE, "x": (ARR, struct.pack("<iQQ", STR, 1, 1 << 63))}), "cut short"),
        (pack()[:-32] + struct.pack("<Q", 1 << 63) + bytes(64), "not a sound GGUF|cut short"),
    ],
)
def test_absurd_counts_are_refused_before_anything_is_allocated(
    refused: Callable[[bytes], str], data: bytes, says: str
) -> None:
    tracemalloc.start()
    try:
        sentence = refused(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert any(part in sentence for part in says.split("|"))
    assert peak < 1 << 20


ONE = pack_tensor("a", (32,), offset=0)  # 128 bytes of f32


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ((ONE, pack_tensor("b", offset=0)), "'b' is said to begin at 0, not at 128"),
        ((ONE, pack_tensor("b", offset=64)), "'b' is said to begin at 64, not at 128"),
        ((ONE, pack_tensor("b", offset=1 << 50)), "'b' is said to begin at"),
        ((ONE, pack_tensor("a", offset=128)), "'a' is there twice"),
        ((pack_tensor("a", (1 << 40, 1 << 40)),), "impossible shape"),
        ((pack_tensor("a", (-32,)),), "impossible shape"),
        ((pack_tensor("a", (0,)),), "impossible shape"),
        ((pack_tensor("a", (1, 1, 1, 1, 1)),), "5 dimensions, the limit is 4"),
        ((pack_tensor("a", (32,), kind=4),), "unknown type 4"),
        ((pack_tensor("a", (32,), kind=-1),), "unknown type -1"),
        ((pack_tensor("a", (100,), kind=8),), "rows of 100, Q8_0 needs 32s"),
        ((pack_tensor("n" * 64),), "64 bytes long, the limit is 63"),
        ((pack_tensor("a", (1 << 30,)),), "bytes, 4294966296 are missing"),
    ],
)
def test_tensor_lists_that_contradict_themselves(
    refused: Callable[[bytes], str], tensors: tuple[bytes, ...], says: str
) -> None:
    assert says in refused(pack(tensors=tensors, data=1000))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"x": (U32, 1)}, "names no architecture"),
        ({"general.architecture": (U32, 1)}, "names no architecture"),
        ({**BASE, "llama.block_count": (STR, "2")}, "llama.block_count is '2'"),
        ({**BASE, "llama.block_count": (U32, 0)}, "block_count is 0, not 1 to 512"),
        ({**BASE, "llama.block_count": (U32, 100_000)}, "block_count is 100000"),
        ({k: v for k, v in BASE.items() if "embedding" not in k}, "embedding_length is missing"),
        ({**BASE, "llama.embedding_length": (I32, -1)}, "embedding_length is -1"),
        ({**BASE, "general.alignment": (U32, 0)}, "general.alignment is 0, not a power of two"),
        ({**BASE, "general.alignment": (U32, 48)}, "general.alignment is 48"),
        ({**BASE, "general.alignment": (STR, "32")}, "general.alignment is '32'"),
        ({**BASE, "x": (13, 0)}, "'x' has unknown type 13"),
        ({**BASE, "llama.attention.head_count": (ARR, struct.pack("<iQ3I", U32, 3, 1, 2, 3))}, "2 numbers"),
    ],
)
def test_metadata_that_contradicts_itself(
    refused: Callable[[bytes], str], keys: dict[str, tuple[int, object]], says: str
) -> None:
    assert says in refused(pack(keys))


def test_a_key_given_twice(refused: Callable[[bytes], str]) -> None:
    twice = pack_keys(BASE) + pack_keys({"llama.block_count": (U32, 3)})
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, 4) + twice
    assert "'llama.block_count' is there twice" in refused(data)


def test_all_layers_as_mtp_blocks(refused: Callable[[bytes], str]) -> None:
    keys = {
        "general.architecture": (STR, "qwen35"), "qwen35.block_count": (U32, 1),
        "qwen35.embedding_length": (U32, 64), "qwen35.nextn_predict_layers": (U32, 1),
    }  # fmt: skip
    assert "no trunk" in refused(pack(keys))


def test_recurrent_layers_may_be_listed_one_by_one(tmp_path: Path) -> None:
    flags = struct.pack("<iQ4?", 7, 4, True, False, True, False)
    path = tmp_path / "listed.gguf"
    path.write_bytes(pack({
        "general.architecture": (STR, "qwen3next"), "qwen3next.block_count": (U32, 4),
        "qwen3next.embedding_length": (U32, 64), "qwen3next.attention.recurrent_layers": (ARR, flags),
        "qwen3next.attention.head_count": (U32, 4),
        "qwen3next.attention.head_count_kv": (ARR, struct.pack("<iQ4I", U32, 4, 0, 2, 0, 1)),
    }))  # fmt: skip
    header = check_gguf(path)
    assert header.recurrent_layers == (0, 2)
    assert header.full_attention_layers == (1, 3)
    assert header.n_head_kv == (0, 2, 0, 1)
    assert header.head_dim_k == 16


def test_a_dense_architecture_has_no_recurrent_layers(tmp_path: Path) -> None:
    path = tmp_path / "dense.gguf"
    path.write_bytes(pack(tensors=(ONE,), data=128))
    header = check_gguf(path)
    assert (header.n_layer, header.full_attention_layers, header.recurrent_layers) == (2, (0, 1), ())
    assert header.tensors[0].n_bytes == 128


def test_version_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v2.gguf"
    path.write_bytes(pack(version=2))
    assert check_gguf(path).arch == "llama"


def test_a_long_array_is_counted_but_not_kept(tmp_path: Path) -> None:
    tokens = struct.pack("<iQ", STR, 5000) + b"".join(text(f"t{i}") for i in range(5000))
    path = tmp_path / "long.gguf"
    path.write_bytes(pack({**BASE, "tokenizer.ggml.tokens": (ARR, tokens)}))
    header = check_gguf(path)
    assert header.n_vocab == 5000
    assert "tokenizer.ggml.tokens" not in header.metadata
