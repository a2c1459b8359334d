"""What was built, from what, with what: one JSON document beside the library, and how to find it.

The loader takes the library from a manifest and from nowhere else; a result copies the manifest, so a
number can be traced to a tree, a series and a compiler.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pydantic

from llamacpp_tools import home
from llamacpp_tools.build.options import BACKENDS, build_name
from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.files import sha256_file, write_text_atomic


class LibraryFile(pydantic.BaseModel):
    """A shared library or a program: its path inside the build's folder, and the SHA-256 (hex) of its bytes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str


class Manifest(pydantic.BaseModel):
    """The document. Hashes are lower-case hex; paths are names inside the build's folder.

    `libraries` are all shared libraries that a process loads, libllama and the shim among them, in that order. The
    schema changes with the form of this document and of those that it names, so that older builds are made again.
    `rpc_server` is upstream's RPC server, in a build with the RPC backend only.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[2] = pydantic.Field(alias="schema")
    backend: str
    variant: str
    pin: str
    upstream_origin: str
    upstream_commit: str
    upstream_tree: str
    head: str
    series_head: str
    tree: str
    series_digest: str
    patches: list[str]
    compiler: str
    cmake_options: list[str]
    mitigation: str
    mitigation_reason: str
    native_digest: str
    library: str
    library_sha256: str
    shim: str
    shim_sha256: str
    libraries: list[LibraryFile] = pydantic.Field(min_length=1)
    declarations: str
    layout: str
    layout_sha256: str
    tools: dict[str, str]
    proof: list[dict[str, Any]]
    seconds: float
    rpc_server: LibraryFile | None = None

    @property
    def rpc(self) -> bool:
        """Whether layers can lie on other machines with this build."""
        return self.rpc_server is not None

    @property
    def is_proved(self) -> bool:
        """Whether it was tried on what it is for; a GPU's build on a machine without a GPU was not."""
        return self.backend == "cpu" or any(row.get("n_gpu_layers") for row in self.proof)

    @property
    def code_sha256(self) -> str:
        """One hash for all that a process loads: a patch to ggml alone leaves libllama's as it was."""
        lines = (f"{Path(file.path).name} {file.sha256}\n" for file in self.libraries)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def build_commit(self) -> str:
        """What llama-bench calls `build_commit`: the first nine digits of the stack's HEAD."""
        return self.head[:9]


class Build:
    """A finished build: its manifest and where its files lie."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def folder(self) -> Path:
        """The build's folder."""
        return self.path.parent

    @property
    def library(self) -> Path:
        """libllama."""
        return self.folder / self.manifest.library

    @property
    def shim(self) -> Path:
        """Our `extern "C"` library beside it."""
        return self.folder / self.manifest.shim

    @property
    def declarations(self) -> Path:
        """The C declarations taken from the built tree's own header."""
        return self.folder / self.manifest.declarations

    @property
    def layout(self) -> Path:
        """What the compiler made of that header (see `build.layout`)."""
        return self.folder / self.manifest.layout

    @property
    def libraries(self) -> list[Path]:
        """All shared libraries that a process loads, in the order in which it does; the last one is the shim."""
        return [self.folder / file.path for file in self.manifest.libraries]

    @property
    def is_whole(self) -> bool:
        """Every file that a process needs is there."""
        server = [self.rpc_server] if self.manifest.rpc else []
        return all(path.is_file() for path in (*self.libraries, self.declarations, self.layout, *server))

    @property
    def damaged(self) -> list[Path]:
        """Libraries, and the RPC server, that are there with other bytes than were built."""
        files = [*self.manifest.libraries, *filter(None, [self.manifest.rpc_server])]
        return [path for file in files if sha256_file(path := self.folder / file.path) != file.sha256]

    @property
    def rpc_server(self) -> Path:
        """Upstream's RPC server.

        Raises:
            MissingTool: the build has no RPC backend.
        """
        if self.manifest.rpc_server is None:
            wanted = build_command(self.manifest.backend, self.manifest.variant, rpc=True)
            raise MissingTool(f"this build cannot serve layers to another machine: run `{wanted}`")
        return self.folder / self.manifest.rpc_server.path

    def tool(self, name: str) -> Path:
        """One of upstream's programs.

        Raises:
            MissingTool: the build was made without it.
        """
        if name not in self.manifest.tools:
            wanted = build_command(self.manifest.backend, self.manifest.variant, self.manifest.rpc)
            raise MissingTool(f"{name} is not in this build: run `{wanted} --tools`")
        return self.folder / self.manifest.tools[name]

    @property
    def data(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return self.manifest.model_dump(by_alias=True, mode="json")


def write(folder: Path, manifest: Manifest) -> Build:
    """Write the manifest into the build's folder, whole or not at all."""
    path = folder / "manifest.json"
    text = json.dumps(manifest.model_dump(by_alias=True, mode="json"), indent=2) + "\n"
    write_text_atomic(path, text)
    return Build(path, manifest)


def load(path: Path) -> Build:
    """Read a manifest.

    Raises:
        BadInput: it is missing, or not a manifest of this version of llt.
    """
    try:
        return Build(path, Manifest.model_validate_json(path.read_text(encoding="utf-8")))
    except (OSError, pydantic.ValidationError) as error:
        raise BadInput(
            f"{path} is not a build manifest of this version of llt: run `llt build` again"
        ) from error


def pointer(backend: str, variant: str, rpc: bool = False) -> Path:
    """The small file that says which folder holds the current build of a backend and variant."""
    return home.builds_dir() / f"{build_name(backend, variant, rpc)}.current"


def point_to(build: Build) -> None:
    """Make `build` the one that `find` returns."""
    made = build.manifest
    write_text_atomic(pointer(made.backend, made.variant, made.rpc), build.folder.name + "\n")


def find(backend: str = "cpu", variant: str = "patched", rpc: bool = False) -> Build:
    """The current build of a backend and variant, the one with the RPC backend if `rpc`.

    Raises:
        BadInput: no such backend is known.
        MissingTool: there is none, or its files are gone.
    """
    if backend not in BACKENDS:
        raise BadInput(f"unknown backend '{backend}'; llt builds {', '.join(BACKENDS)}")
    command = build_command(backend, variant, rpc)
    words = f"{variant} build for {backend}{' with RPC' if rpc else ''}"
    try:
        name = pointer(backend, variant, rpc).read_text(encoding="utf-8").strip()
        build = load(home.builds_dir() / name / "manifest.json")
    except (OSError, BadInput) as error:
        raise MissingTool(f"no {words} is here: run `{command}`") from error
    if not build.is_whole:
        raise MissingTool(f"the {words} has lost files: run `{command}`")
    return build


def build_command(backend: str, variant: str, rpc: bool = False) -> str:
    """The command line that makes such a build."""
    variant, _, onto = variant.partition("-onto-")
    base, _, left_out = variant.partition("-without-")
    options = [
        f"--{backend}",
        *(["--rpc"] if rpc else []),
        *([] if base == "patched" else ["--variant", base]),
    ]
    for name in left_out.split("-without-") if left_out else []:
        options += ["--without", name]
    if onto:
        options += ["--onto", onto]
    return " ".join(["llt", "build", *options])
