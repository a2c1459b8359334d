"""Where a result's figures come from, as named facts, and what differs between results and between runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from llamacpp_tools.report.story import Story
from llamacpp_tools.results.asked import as_written
from llamacpp_tools.results.schema import Document, RpcServer
from llamacpp_tools.rpc.address import parse as parse_address

_WORDS = {
    "published_in": "published in",
    "upstream_commit": "upstream commit",
    "upstream_tree": "upstream tree",
    "series_digest": "digest of the series",
    "stack_head": "series head",
    "libllama_sha256": "libllama sha256",
    "cmake_options": "cmake options",
    "build_commit": "commit of the tree",
    "build_number": "build number",
    "cpu_info": "processor",
    "gpu_info": "GPU",
    "cpu_count": "CPU threads",
    "load_average": "load when it began",
    "memory_bytes": "memory",
    "llt_version": "llt version",
    "llt_commit": "llt commit",
    "checkout_dirty": "uncommitted changes in llt",
    "model_filename": "model file",
    "model_size": "model size",
    "model_n_params": "parameters",
    "rpc_servers": "RPC servers",
}
_BYTES = {"memory_bytes", "model_size"}


@dataclass(frozen=True)
class Difference:
    """A fact that is not the same in all results of a report, with its value in each."""

    name: str
    values: tuple[str, ...]


def facts(result: Document) -> dict[str, str]:
    """What is known of where the figures come from, by a name for people; what is not known is left out."""
    own = {"date": result.date, "machine": result.box, "backend": result.backend, "model": result.model}
    known = result.provenance.model_dump(mode="json")
    told = {_WORDS.get(key, key): _word(key, value) for key, value in known.items()}
    return {key: value for key, value in (own | told).items() if value}


def differences(stories: Sequence[Story]) -> list[Difference]:
    """The facts and settings in which the results differ; empty for one result."""
    each = [facts(story.result) | _settings(story.result.config) for story in stories]
    names = list(dict.fromkeys(name for known in each for name in known))
    rows = [Difference(name, tuple(known.get(name, "") for known in each)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def runs(result: Document) -> list[dict[str, str]]:
    """The runs of a sweep that was gone on with, as date, commit and load; empty for a single one."""
    if len(result.runs) < 2:
        return []
    return [
        {str(key).replace("_", " "): _word(key, value) for key, value in run.items()} for run in result.runs
    ]


def sweep_file(result: Document) -> str:
    """The configuration as a sweep file, every default written out; empty where another command measured it."""
    if result.acceptance is not None:
        return ""
    # Letters beyond ASCII are escaped: among them are some that would turn the text around them.
    return str(yaml.safe_dump(as_written(result.config), sort_keys=False, default_flow_style=None, width=100))


def commands(result: Document) -> list[str]:
    """What measures the same again, with `sweep_file` saved as `sweep.yaml` where there is one."""
    backend = result.backend if result.backend in ("cpu", "vulkan", "cuda") else "cpu"
    servers = result.provenance.rpc_servers or []
    rpc = " --rpc" if servers else ""
    variant = " --variant stock" if result.provenance.variant == "stock" else ""
    again = result.acceptance.command if result.acceptance is not None else "llt sweep sweep.yaml"
    return [f"llt build --{backend}{rpc}{variant}", *map(_serving, servers), again]


def _serving(server: RpcServer) -> str:
    """What starts an RPC server again, on its own machine."""
    host, port = parse_address(server.address)
    backend = f" --{server.backend}" if server.backend in ("vulkan", "cuda") else ""
    variant = "" if server.variant == "patched" else f" --variant {server.variant}"
    return f"llt rpc-server --port {port}{backend}{variant} --threads {server.n_threads}  # on {host}"


def _settings(config: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= {f"{key}: {name}": _plain(item) for name, item in value.items()}
        else:
            found[key] = _plain(value)
    return found


def _word(key: str, value: Any) -> str:
    if value is None or value in ("", []):
        return ""
    if key in _BYTES:
        return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
    if key == "model_n_params":
        return f"{value:,}"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return (" " if any(str(item).startswith("-") for item in value) else ", ").join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return "" if value is None else str(value)
