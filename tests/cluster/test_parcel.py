import dataclasses
import shutil

import pytest

from llamacpp_tools.build import manifest
from llamacpp_tools.cluster.modelsearch import Wanted, find
from llamacpp_tools.cluster.parcel import Parcel, pack, unpack
from llamacpp_tools.errors import BadInput, CheckFailed, LltError, MissingTool
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.stack.series import load_series
from tests.conftest import PATCHES


def test_the_series_travels_byte_for_byte(tmp_path):
    parcel = Parcel.from_json(pack("cpu", "patched").to_json())
    for name, text in parcel.files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert load_series(tmp_path).digest == parcel.series_digest == load_series(PATCHES).digest


def test_what_is_left_out_is_left_out_there_too():
    series = load_series(PATCHES)
    parcel = pack("cpu", "patched-without-mtp-iswa")
    assert parcel.series_digest == series.leave_out(("mtp-iswa",)).digest != series.digest
    assert pack("cpu", "stock").series_digest != series.digest


def test_a_build_onto_another_version_does_not_travel():
    with pytest.raises(BadInput, match="cannot be made on other boxes"):
        pack("cpu", "patched-onto-v0.5.0")


@pytest.mark.parametrize("name", ["../series.yaml", "/etc/passwd", ".bashrc", "a/b.patch", ""])
def test_a_parcel_names_files_and_no_paths(home, monkeypatch, name):
    monkeypatch.setattr("llamacpp_tools.cluster.parcel.require", lambda backend: None)
    parcel = dataclasses.replace(pack("cpu", "patched"), files={name: "x"})
    with pytest.raises(CheckFailed, match="names a file"):
        unpack(parcel, lambda *_: None)


def test_a_parcel_is_what_it_says(home, monkeypatch):
    monkeypatch.setattr("llamacpp_tools.cluster.parcel.require", lambda backend: None)
    parcel = dataclasses.replace(pack("cpu", "patched"), series_digest="0" * 64)
    with pytest.raises(CheckFailed, match="does not have the digest"):
        unpack(parcel, lambda *_: None)


@pytest.mark.build
def test_a_build_of_the_same_is_taken_and_another_refused(patched):
    parcel = pack("cpu", patched.manifest.variant)

    def building(*_: object) -> None:
        raise AssertionError("nothing is to be built")

    assert unpack(parcel, building).path == manifest.find("cpu").path
    other = dataclasses.replace(parcel, series_digest="0" * 64)
    with pytest.raises(CheckFailed, match=r"is of series \w{12}, not 000000000000"):
        unpack(other, building)


def test_a_model_is_found_by_its_hash_under_any_name(tiny, home, tmp_path):
    wanted = dataclasses.replace(Wanted.of(check_gguf(tiny)), path="/nowhere/model.gguf")
    with pytest.raises(MissingTool, match=r"it lacks the model model\.gguf"):
        find(wanted, "/nowhere/model.gguf", ())
    shelf = tmp_path / "shelf" / "deep"
    shelf.mkdir(parents=True)
    # The same size, another content; and no model at all.
    other = bytearray(tiny.read_bytes())
    other[-1] ^= 1
    (shelf / "a.gguf").write_bytes(other)
    (shelf / "b.gguf").write_text("none")
    with pytest.raises(LltError, match="it lacks"):
        find(wanted, "/nowhere/model.gguf", (tmp_path / "shelf",))
    shutil.copy(tiny, shelf / "z.gguf")
    assert find(wanted, "/nowhere/model.gguf", (tmp_path / "shelf",)).path == shelf / "z.gguf"
