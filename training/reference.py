"""Logits of torch for the file that ships, stored so that a test can compare libllama's without torch.

The reference has the weights as the q8_0 file holds them; the test writes that file as f32, where nothing is lost,
so the two compute the same numbers and differ by rounding alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch

from llamacpp_tools.build.manifest import find
from llamacpp_tools.engine.evaluate import draft_logits
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.gguffile import read_gguf
from llamacpp_tools.models.recast import recast
from llamacpp_tools.workloads import MEASURED_SEED, names, prompt_tokens
from training.export import to_gguf
from training.model import Miniature
from training.parity import LOOKAHEADS, SHORTEST_PROMPT, context_options, torch_draft_logits
from training.tokenizer import Tokenizer

F32 = npt.NDArray[np.float32]
N_TOKENS = 384
POSITIONS = tuple(range(47, N_TOKENS, 48))
DRAFT_KINDS = ("maintenance_log", "analysis")
DRAFT_ROWS = 8


def write_reference(model: Miniature, tokenizer: Tokenizer, shipped: Path, path: Path) -> int:
    """Write the reference of the q8_0 file `shipped` to `path`; returns the number of rows.

    The .npz holds `positions` [p], for each kind `tokens_KIND` [N_TOKENS] and `logits_KIND` [p, n_vocab], and for
    each lookahead L of each of `DRAFT_KINDS` `prompt_KIND_L`, `tokens_KIND_L` (prompt and all that was generated) and
    `draft_KIND_L` [rows, n_vocab].

    Raises:
        CheckFailed: the file does not hold this model.
    """
    model = as_shipped(model, shipped)
    found: dict[str, npt.NDArray[np.generic]] = {"positions": np.array(POSITIONS)}
    for kind in names():
        tokens = prompt_tokens(kind, N_TOKENS, tokenizer.encode, MEASURED_SEED)
        with torch.inference_mode():
            logits = model.logits(model.hidden(torch.tensor([tokens])))[0, list(POSITIONS)]
        found |= {f"tokens_{kind}": np.array(tokens), f"logits_{kind}": logits.numpy()}
    library = open_library(find())
    with tempfile.TemporaryDirectory(prefix="llt-reference-") as name:
        exact = Path(name) / "f32.gguf"
        recast(shipped, exact, "f32")
        for kind in DRAFT_KINDS:
            prompt = prompt_tokens(kind, SHORTEST_PROMPT, tokenizer.encode, MEASURED_SEED)
            for lookahead in LOOKAHEADS:
                n_ctx = SHORTEST_PROMPT + 8 * DRAFT_ROWS * lookahead
                options = SessionOptions(context_options(n_ctx), n_max=lookahead)
                with Session(library, exact, options) as session:
                    drafted = draft_logits(session, prompt, lookahead, DRAFT_ROWS)
                found |= {
                    f"prompt_{kind}_{lookahead}": np.array(prompt),
                    f"tokens_{kind}_{lookahead}": np.array(drafted.tokens),
                    f"draft_{kind}_{lookahead}": torch_draft_logits(model, drafted.tokens, drafted.steps),
                }
    with write_atomic(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **found)
    return sum(len(rows) for name, rows in found.items() if name.startswith(("logits_", "draft_")))


def as_shipped(model: Miniature, shipped: Path) -> Miniature:
    """The model with its matrices rounded as the q8_0 file holds them.

    Raises:
        CheckFailed: the file holds another model.
    """
    state = {name: value.detach().float().numpy() for name, value in model.state_dict().items()}
    rounded = {name: _rounded(value) if _is_matrix(name, value) else value for name, value in state.items()}
    arrays, file = to_gguf(model.shape, rounded), read_gguf(shipped)
    for entry in file.entries:
        raw = file.data[entry.name].reshape(-1, entry.row_bytes)
        values = raw.view("<f4") if entry.type is gguf.GGMLQuantizationType.F32 else _dequantized(raw)
        if not np.array_equal(values.reshape(entry.dims), arrays[entry.name]):
            raise CheckFailed(f"{entry.name} of {shipped} is not the checkpoint's, in q8_0: export it again")
    made = Miniature(model.shape)
    made.load_state_dict({name: torch.from_numpy(value) for name, value in rounded.items()})
    made.eval()
    return made


def _is_matrix(name: str, value: F32) -> bool:
    """Whether the export quantises it; see `shapes.Tensor.always_f32`."""
    stays = ("mlp.gate.weight", "shared_expert_gate.weight", "conv1d.weight")
    return value.ndim > 1 and not name.endswith(stays)


def _rounded(value: F32) -> F32:
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    if value.shape[-1] % 32:
        return value
    return _dequantized(gguf.quants.quantize(np.ascontiguousarray(value), q8_0)).reshape(value.shape)


def _dequantized(raw: npt.NDArray[np.uint8]) -> F32:
    values: F32 = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q8_0)
    return values
