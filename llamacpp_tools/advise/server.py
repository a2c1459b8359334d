"""The command line of `llama-server` for an option, in the words of the build that measured it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from llamacpp_tools.advise.advice import Option
from llamacpp_tools.results.schema import Cell
from llamacpp_tools.sweep.cell import context_size
from llamacpp_tools.workloads.cut import added_tokens

_FLASH = {True: "on", False: "off", "auto": "auto"}


def server_command(option: Option, cell: Cell, model: str) -> str:
    """The exact command, quoted for a shell; what the result does not say is left to the server.

    Args:
        option: recipe and draft.
        cell: a cell of the setting, for the context's parameters.
        model: the GGUF file.
    """
    size = context_size(cell.n_depth + added_tokens(cell.workload), cell.n_predict or 0, option.n_max)
    asked: Mapping[str, object] = {
        "-m": model,
        "-c": size,
        "-b": cell.n_batch,
        "-ub": cell.n_ubatch,
        "-ctk": cell.type_k,
        "-ctv": cell.type_v,
        "-fa": _FLASH.get(cell.flash_attn) if cell.flash_attn is not None else None,
        "-ngl": cell.n_gpu_layers,
        "-t": cell.threads if cell.threads != "auto" else cell.n_threads,
        "--rpc": ",".join(cell.rpc) or None,
        # A server keeps room for several users by default, each of whom would get a part of the context.
        "-np": 1,
        "--dynsparse-swa": option.recipe.window,
        "--dynsparse-swa-full": ",".join(map(str, option.recipe.full_layers)) or None,
        "--spec-type": "draft-mtp" if option.n_max else None,
        "--spec-draft-n-max": option.n_max or None,
    }
    words = [word for flag, value in asked.items() if value is not None for word in (flag, str(value))]
    return shlex.join(["llama-server", *words])
