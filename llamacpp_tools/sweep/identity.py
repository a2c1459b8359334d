"""What all figures of a sweep depend on beside a cell's parameters: model, library, device, driver, texts.

The device is asked in a process of its own, because loading a library means keeping it: `python -m
llamacpp_tools.sweep.identity MANIFEST` prints what it sees as one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.files import sha256_file
from llamacpp_tools.rpc.address import parse as parse_address
from llamacpp_tools.rpc.identity import ServerIdentity
from llamacpp_tools.sweep.config import FileWorkload, SweepConfig, TurnsWorkload, Workload
from llamacpp_tools.sweep.plan import workload_label
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads import prompt_text

PROBE_S = 120.0
TEXT_CHARS = 8000
_VULKAN_DEVICE = re.compile(r"ggml_vulkan: \d+ = .* \((?P<driver>[^()]+)\) \|")


@dataclass(frozen=True)
class Device:
    """What a build computes on.

    Attributes:
        name: the device's own name; the CPU's where there is no other.
        driver: of the GPU, None without one.
        memory_bytes: memory of all GPUs together, None without one.
        free_bytes: of it, what is free now.
    """

    name: str
    driver: str | None = None
    memory_bytes: int | None = None
    free_bytes: int | None = None


def ask_device(manifest: Path) -> Device:
    """The device of a build.

    Raises:
        CheckFailed: the library cannot be loaded, or its backend fails at once.
    """
    command = [sys.executable, "-m", "llamacpp_tools.sweep.identity", str(manifest)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the build's device did not answer within {PROBE_S:.0f} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise CheckFailed(f"the build's device cannot be asked: {said[-1] if said else done.returncode}")
    return Device(**json.loads(done.stdout.splitlines()[-1]))


def driver_of(told: str) -> str | None:
    """The GPU driver as a library's own log tells it, or as the NVIDIA kernel module does."""
    match = _VULKAN_DEVICE.search(told)
    if match:
        return match["driver"]
    try:
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    return first.removeprefix("NVRM version:").strip()


def identity(
    config: SweepConfig,
    model_sha256: str,
    code_sha256: str,
    device: Device,
    servers: Mapping[str, ServerIdentity] | None = None,
) -> dict[str, str]:
    """The parts that go into the cells' keys (see `journal.cell_key`)."""
    found = {
        "model": model_sha256,
        "libraries": code_sha256,
        "device": device.name,
        "driver": device.driver or "",
        # What `threads: auto` means on this machine, to this process.
        "threads": str(auto_threads()),
    }
    for address, server in (servers or {}).items():
        # The same box is another one over another cable: its host counts as it is written, its port does not.
        found[f"rpc {address}"] = f"{parse_address(address)[0]} {server.figure_key}"
    for workload in config.workloads:
        found[f"text {workload_label(workload)}"] = text_sha256(workload)
    return found


def text_sha256(workload: Workload) -> str:
    """What tells a workload's text from another."""
    if isinstance(workload, FileWorkload):
        return sha256_file(Path(workload.file))
    if isinstance(workload, TurnsWorkload):
        return hashlib.sha256("".join(map(text_sha256, workload.turns)).encode()).hexdigest()
    # A later version of llt may have other texts; their beginning tells.
    return hashlib.sha256(prompt_text(workload, TEXT_CHARS).encode()).hexdigest()


def _probe(manifest: Path) -> dict[str, Any]:
    from llamacpp_tools.build.manifest import load
    from llamacpp_tools.ffi.library import open_library

    library = open_library(load(manifest))
    ffi, lib = library.ffi, library.lib
    count = int(lib.ggml_backend_dev_count())
    devices = [lib.ggml_backend_dev_get(index) for index in range(count)]
    names = [
        ffi.string(lib.ggml_backend_dev_description(item)).decode("utf-8", "replace") for item in devices
    ]
    if count == 1:
        return asdict(Device(names[0]))
    free, total = ffi.new("size_t *"), ffi.new("size_t *")
    memory, unused = 0, 0
    for each in devices[:-1]:
        lib.ggml_backend_dev_memory(each, free, total)
        memory += int(total[0])
        unused += int(free[0])
    driver = driver_of("\n".join(library.all_lines))
    return asdict(Device(", ".join(names[:-1]), driver, memory, unused))


if __name__ == "__main__":
    print(json.dumps(_probe(Path(sys.argv[1]))))
