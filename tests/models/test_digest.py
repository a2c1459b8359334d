import hashlib
import os

from llamacpp_tools import home as homes
from llamacpp_tools.models import digest


def test_a_file_is_read_once_and_again_when_it_changed(home, tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    first = digest.model_sha256(path)
    assert first == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr(digest, "sha256_file", lambda path: "read again")
        assert digest.model_sha256(path) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert digest.model_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_record_that_is_not_ours_is_written_anew(home, tmp_path):
    homes.models_dir().mkdir(parents=True)
    (homes.models_dir() / "digests.json").write_text("[1, 2")
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    assert digest.model_sha256(path) == hashlib.sha256(b"one").hexdigest()
