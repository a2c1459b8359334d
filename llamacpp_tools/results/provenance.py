"""Where a measurement comes from: the build's manifest, the machine, this checkout, the model's file."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

import llamacpp_tools
from llamacpp_tools.processor import cpu_info
from llamacpp_tools.results.schema import Provenance, RpcServer
from llamacpp_tools.rpc.identity import ServerIdentity
from llamacpp_tools.sweep.outcome import CellOutcome

log = logging.getLogger(__name__)


def provenance(
    manifest: Mapping[str, Any],
    model: Path,
    driver: str | None = None,
    servers: Mapping[str, ServerIdentity] | None = None,
) -> Provenance:
    """What is known before anything is loaded.

    Args:
        manifest: the build's manifest as JSON values.
        model: the GGUF file; only its name goes into the result.
        driver: the GPU's, None without one.
        servers: the RPC servers that hold layers, by address.
    """
    commit, dirty = checkout_state(Path(llamacpp_tools.__file__).resolve().parent)
    return Provenance(
        source="measured",
        pin=manifest.get("pin"),
        upstream_commit=manifest.get("upstream_commit"),
        upstream_tree=manifest.get("upstream_tree"),
        series_digest=manifest.get("series_digest"),
        patches=manifest.get("patches"),
        stack_head=manifest.get("series_head"),
        variant=manifest.get("variant"),
        libllama_sha256=manifest.get("library_sha256"),
        compiler=manifest.get("compiler"),
        cmake_options=manifest.get("cmake_options"),
        mitigation=manifest.get("mitigation"),
        build_commit=str(manifest["head"])[:9] if "head" in manifest else None,
        build_number=_build_number(str(manifest.get("pin", ""))),
        driver=driver,
        cpu_info=cpu_info(),
        cpu_count=psutil.cpu_count(),
        load_average=round(psutil.getloadavg()[0], 2),
        memory_bytes=int(psutil.virtual_memory().total),
        os=_os_name(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        llt_version=llamacpp_tools.__version__,
        llt_commit=commit,
        checkout_dirty=dirty,
        model_filename=model.name,
        rpc_servers=[_server(address, known) for address, known in servers.items()] if servers else None,
    )


def _server(address: str, known: ServerIdentity) -> RpcServer:
    # What tells a box or a process from another is for the journal, and no part of a result.
    told = known.model_dump(exclude={"llt_rpc", "devices", "box", "started", "busy"})
    devices = [f"{each.name}: {each.description}" for each in known.devices]
    return RpcServer(address=address, devices=devices, **told)


def with_device(known: Provenance, outcome: CellOutcome) -> Provenance:
    """`known` with what the first worker that loaded said about device, backends and model."""
    loaded = outcome.loaded
    if loaded is None or known.device is not None:
        return known
    return known.model_copy(
        update={
            "device": loaded.device,
            "backends": loaded.backends,
            "gpu_info": loaded.gpu_info,
            "model_size": loaded.model_size,
            "model_n_params": loaded.model_n_params,
        }
    )


def common(known: Sequence[Provenance]) -> Provenance:
    """What all of them say alike; null where they differ."""
    first, *others = [each.model_dump() for each in known]
    same = {name: value for name, value in first.items() if all(other[name] == value for other in others)}
    return Provenance(**{"source": "measured", **same})


def box(known: Provenance) -> str:
    """The machine in words: processor, threads, memory; no name that would identify it."""
    memory = f"{known.memory_bytes / 2**30:.0f} GiB" if known.memory_bytes else "unknown memory"
    return f"{known.cpu_info or 'unknown CPU'}, {known.cpu_count or '?'} threads, {memory}"


def checkout_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and dirtiness of the git checkout that the package runs from; None for an installed one."""
    try:
        import git

        repo = git.Repo(folder, search_parent_directories=True)
        root = Path(str(repo.working_tree_dir)).resolve()
        # A virtual environment inside somebody's own repository is not our checkout.
        if not (root / "llamacpp_tools" / "__init__.py").is_file():
            return None, None
        commit = repo.head.commit.hexsha if repo.head.is_valid() else None
        return commit, repo.is_dirty(untracked_files=True)
    except (ImportError, ValueError, OSError) as error:
        log.debug("no checkout state: %s", error)
    except Exception as error:  # GitPython's errors have no common root that can be imported without git
        log.debug("no checkout state: %s", error)
    return None, None


def _build_number(pin: str) -> int | None:
    match = re.fullmatch(r"b(\d+)", pin)
    return int(match[1]) if match else None


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
