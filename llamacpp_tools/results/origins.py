"""What differs in where two results come from, and what each difference means for their comparison."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from llamacpp_tools.results.caveats import BUSY_ABOVE
from llamacpp_tools.results.schema import Cell, Document

# `model` and `machine`: no comparison of the code. `conditions`: may explain a difference by itself. `code`: what
# such a comparison is mostly made for. `record`: how it was measured and written down.
Kind = Literal["model", "machine", "conditions", "code", "record"]

_FIELDS: dict[str, Kind] = {
    "model_filename": "model",
    "model_size": "model",
    "model_n_params": "model",
    "cpu_info": "machine",
    "gpu_info": "machine",
    "cpu_count": "machine",
    "memory_gib": "machine",
    "device": "machine",
    "backend": "machine",
    "driver": "conditions",
    "kernel": "conditions",
    "os": "conditions",
    "n_threads": "conditions",
    "workers": "conditions",
    "ran_alone": "conditions",
    "python": "record",
    "pin": "code",
    "upstream_commit": "code",
    "upstream_tree": "code",
    "series_digest": "code",
    "stack_head": "code",
    "patches": "code",
    "variant": "code",
    "libllama_sha256": "code",
    "compiler": "code",
    "cmake_options": "code",
    "mitigation": "code",
    "backends": "code",
    "llt_version": "code",
    "llt_commit": "code",
    "checkout_dirty": "record",
    "source": "record",
    "date": "record",
}


class Difference(BaseModel):
    """One thing that is not the same on both sides; null where a side does not say."""

    name: str
    kind: Kind
    a: Any
    b: Any


def differences(a: Document, b: Document) -> list[Difference]:
    """What differs, the gravest first; a thing that neither side says is no difference."""
    ours, theirs = _said(a), _said(b)
    order: list[Kind] = ["model", "machine", "conditions", "code", "record"]
    found = [
        Difference(name=name, kind=kind, a=ours[name], b=theirs[name])
        for name, kind in _FIELDS.items()
        if ours[name] != theirs[name]
    ]
    return sorted(found, key=lambda each: order.index(each.kind))


def _said(document: Document) -> dict[str, Any]:
    known = document.provenance
    memory = known.memory_bytes
    load, count = known.load_average, known.cpu_count
    said: dict[str, Any] = known.model_dump(mode="json")
    said |= {
        # The kernel keeps a few MiB for itself, another one a few more.
        "memory_gib": round(memory / 2**30) if memory else None,
        "backend": document.backend,
        "n_threads": _threads(document.cells),
        "workers": document.config.get("workers"),
        "ran_alone": None if load is None or not count else load <= BUSY_ABOVE * count,
        "date": document.date,
    }
    return {name: said[name] for name in _FIELDS}


def _threads(cells: list[Cell]) -> list[int] | None:
    return sorted({cell.n_threads for cell in cells if cell.n_threads}) or None
