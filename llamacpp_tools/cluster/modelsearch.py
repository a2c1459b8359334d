"""The model of a sweep on another box: found by its hash, made there, or said to be lacking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput, LltError, MissingTool
from llamacpp_tools.models.digest import model_sha256
from llamacpp_tools.models.header import GgufHeader, check_gguf
from llamacpp_tools.sweep.modelfile import Choice, in_words, model_file

_MOST_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Wanted:
    """A model as it is asked for.

    Attributes:
        path: where the sweep's own machine has it.
        size: bytes of the first file.
        sha256: of all files behind one another.
    """

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, header: GgufHeader) -> Wanted:
        """The model that is here."""
        first = header.files[0]
        return cls(str(first.absolute()), first.stat().st_size, model_sha256(*header.files))


def find(wanted: Wanted, choice: Choice, folders: Sequence[Path]) -> GgufHeader:
    """The same model on this box.

    One that llt makes is made; another is looked for at the same path, in `folders` and in llt's own, by size and hash.

    Raises:
        MissingTool: it is not here.
    """
    if not isinstance(choice, str):
        header = check_gguf(model_file(choice))
        if model_sha256(*header.files) != wanted.sha256:
            raise MissingTool(
                f"{in_words(choice)} that it makes is another file: is llt there of the same version?"
            )
        return header
    for path in _candidates(wanted, folders):
        found = _same(path, wanted)
        if found is not None:
            return found
    places = ", ".join(map(str, [*folders, home.models_dir()]))
    raise MissingTool(
        f"it lacks the model {Path(wanted.path).name} (SHA-256 {wanted.sha256[:12]}): copy it to {wanted.path} there, "
        f"or into a folder that its worker is told of with --models (looked in {places})"
    )


def _same(path: Path, wanted: Wanted) -> GgufHeader | None:
    try:
        if path.stat().st_size != wanted.size:
            return None
        header = check_gguf(path)
        return header if model_sha256(*header.files) == wanted.sha256 else None
    except (OSError, LltError):
        return None


def _candidates(wanted: Wanted, folders: Sequence[Path]) -> Iterator[Path]:
    here = Path(wanted.path)
    yield here
    for folder in (*folders, home.models_dir()):
        yield folder / here.name
        for count, path in enumerate(folder.rglob("*.gguf")):
            if count > _MOST_LOOKED_AT:
                raise BadInput(
                    f"{folder} holds more than {_MOST_LOOKED_AT} models: name a smaller folder with --models"
                )
            yield path


def from_json(row: dict[str, Any]) -> Wanted:
    """What travelled."""
    return Wanted(str(row["path"]), int(row["size"]), str(row["sha256"]))
