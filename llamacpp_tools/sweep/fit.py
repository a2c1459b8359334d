"""Whether a plan can run at all, told from the model's header and the texts before anything is started."""

from __future__ import annotations

from pathlib import Path

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import HYBRID_ARCHS, MTP_ARCHS, GgufHeader
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.config import FileWorkload
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.workloads.cut import read_file


def check_fit(plan: Plan, header: GgufHeader) -> None:
    """Refuse a plan whose recipe or draft this model cannot have.

    Raises:
        BadInput: an architecture that the recipe does not know, a layer in `full_layers` that is out of
            range, recurrent or the MTP block, a mode with mtp on a model without an MTP head, any mode on a
            file that holds only that.
    """
    if not header.has_trunk:
        raise BadInput(
            f"{header.path} holds nothing but an MTP block, which drafts for the model that it was taken from: "
            "name that model"
        )
    for cell in plan.cells:
        if cell.swa:
            _check_recipe(cell, header)
        if cell.mtp:
            _check_draft(cell, header)


def check_files(plan: Plan) -> None:
    """Refuse a plan whose text files cannot be read; whether they are long enough only the model can tell.

    Raises:
        BadInput: a file is missing or not text.
    """
    for workload in plan.config.workloads:
        if isinstance(workload, FileWorkload):
            read_file(Path(workload.file))


def _check_recipe(cell: CellSpec, header: GgufHeader) -> None:
    if header.arch not in HYBRID_ARCHS:
        raise BadInput(
            f"the mode {cell.mode} cannot run on {header.path}: the recipe knows {', '.join(HYBRID_ARCHS)}, "
            f"not {header.arch}"
        )
    for layer in cell.full_layers or ():
        if layer in header.full_attention_layers:
            continue
        if layer in header.recurrent_layers:
            what = "is recurrent"
        elif header.n_layer <= layer < header.n_layer + header.n_layer_nextn:
            what = "is the MTP block, which is never windowed"
        else:
            what = f"is out of range, the model has {header.n_layer} layers"
        known = ", ".join(str(full) for full in header.full_attention_layers)
        raise BadInput(
            f"`swa.full_layers`: layer {layer} of {header.path} {what}; its full-attention layers are {known}"
        )


def _check_draft(cell: CellSpec, header: GgufHeader) -> None:
    if header.n_layer_nextn == 0:
        raise BadInput(
            f"the mode {cell.mode} cannot run on {header.path}: the file has no MTP head; take a GGUF that "
            "kept it, or leave the mode out"
        )
    if header.arch not in MTP_ARCHS:
        raise BadInput(
            f"the mode {cell.mode} cannot run on {header.path}: llama.cpp drafts with the MTP head of "
            f"{', '.join(MTP_ARCHS)}, not of {header.arch}"
        )
