"""Layers on other machines: llama.cpp's RPC servers as devices of a model, and which device holds what.

A layer goes where the share of its server's memory says, of all memory and not of what is free at the moment: a model
has to lie the same way in every round. The output matrix lies with the last layer, the embeddings on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llamacpp_tools.build.manifest import build_command
from llamacpp_tools.errors import MissingTool
from llamacpp_tools.ffi.library import Library

CPU = "CPU"
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Devices:
    """What a model is spread over.

    Attributes:
        array: `ggml_backend_dev_t`, closed by NULL; the servers' devices come before this machine's own.
        split: each device's share of the layers, as long as libllama wants it.
    """

    array: Any
    split: Any


def spread(library: Library, servers: Sequence[str]) -> Devices:
    """The devices of `servers` (`host:port`) and this machine's own.

    Connects to each server. One that accepts and then says nothing is waited for, and one that says something else
    aborts this process: both are upstream's doing, so ask a server who it is before (`sweep.servers`).

    Raises:
        MissingTool: the build has no RPC backend.
        LibraryError: a server cannot be reached.
    """
    ffi, lib = library.ffi, library.lib
    found = [device for server in servers for device in _devices_of(library, server)]
    found += _own(lib)
    most = int(lib.llama_max_devices())
    split = ffi.new("float[]", most)
    for index, device in enumerate(found[:most]):
        split[index] = _total_gib(library, device)
    return Devices(ffi.new("ggml_backend_dev_t[]", [*found, ffi.NULL]), split)


def placement(library: Library, model: Any) -> dict[str, list[int]]:
    """The layers of a loaded model by the device that their weights lie on, `CPU` or `RPC0 host:port`.

    A layer whose tensors are on several devices stands under each.
    """
    ffi, lib = library.ffi, library.lib
    found: dict[str, set[int]] = {}
    for index in range(lib.llt_tensor_count(model)):
        layer = _LAYER.match(ffi.string(lib.llt_tensor_name(model, index)).decode())
        if layer is not None:
            device = device_name(library, lib.llt_tensor_device(model, index))
            found.setdefault(device, set()).add(int(layer[1]))
    return {device: sorted(layers) for device, layers in sorted(found.items(), key=lambda item: min(item[1]))}


def device_name(library: Library, device: Any) -> str:
    """A device's name and what it is: `RPC0 192.168.1.7:50052`; `CPU` for memory that the CPU reads in place."""
    ffi, lib = library.ffi, library.lib
    if device == ffi.NULL or lib.ggml_backend_dev_type(device) == lib.GGML_BACKEND_DEVICE_TYPE_CPU:
        return CPU
    words = (lib.ggml_backend_dev_name(device), lib.ggml_backend_dev_description(device))
    return " ".join(ffi.string(word).decode("utf-8", "replace") for word in words)


def _devices_of(library: Library, server: str) -> list[Any]:
    ffi, lib = library.ffi, library.lib
    registry = lib.ggml_backend_reg_by_name(b"RPC")
    if registry == ffi.NULL:
        made = library.build.manifest
        raise MissingTool(
            f"the library in {library.build.folder} cannot reach other machines: run "
            f"`{build_command(made.backend, made.variant, rpc=True)}`"
        )
    # Only builds with the backend have the function, so it is asked for as upstream's own programs do.
    add = ffi.cast(
        "ggml_backend_reg_t (*)(const char *)",
        lib.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_rpc_add_server"),
    )
    library.forget_log()
    added = add(server.encode())
    if added == ffi.NULL:
        raise library.error(f"the RPC server {server} cannot be reached")
    return [
        lib.ggml_backend_reg_dev_get(added, index) for index in range(lib.ggml_backend_reg_dev_count(added))
    ]


def _own(lib: Any) -> list[Any]:
    """This machine's GPUs, or the one that shares the CPU's memory where there are no others, as in upstream."""
    devices = [lib.ggml_backend_dev_get(index) for index in range(lib.ggml_backend_dev_count())]
    gpus = [each for each in devices if lib.ggml_backend_dev_type(each) == lib.GGML_BACKEND_DEVICE_TYPE_GPU]
    shared = [
        each for each in devices if lib.ggml_backend_dev_type(each) == lib.GGML_BACKEND_DEVICE_TYPE_IGPU
    ]
    return gpus or shared[:1]


def _total_gib(library: Library, device: Any) -> float:
    free, total = library.ffi.new("size_t *"), library.ffi.new("size_t *")
    library.lib.ggml_backend_dev_memory(device, free, total)
    # A device that does not tell counts as a small one, not as none.
    return max(1.0, round(int(total[0]) / 2**30))
