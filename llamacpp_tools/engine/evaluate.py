"""Logits at every position of a text, for comparing builds, recipes and formats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llamacpp_tools.engine.context import Context


def logits_of(context: Context, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
    """Decode `tokens` from an empty context in chunks of `n_batch` and return all logits.

    Returns:
        An array of shape (len(tokens), n_vocab), copied out of the library.

    Raises:
        LltError: a decode failed.
    """
    ffi, lib = context.model.library.ffi, context.model.library.lib
    n_vocab, n_batch = context.model.n_vocab, context.options.n_batch
    found = np.empty((len(tokens), n_vocab), dtype=np.float32)
    context.clear()
    batch = lib.llama_batch_init(n_batch, 0, 1)
    try:
        for begin in range(0, len(tokens), n_batch):
            chunk = tokens[begin : begin + n_batch]
            batch.n_tokens = len(chunk)
            for index, token in enumerate(chunk):
                batch.token[index] = token
                batch.pos[index] = begin + index
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = 0
                batch.logits[index] = 1
            status = lib.llama_decode(context.handle, batch)
            if status != 0:
                raise context.failed(status, f"the decode of {len(chunk)} tokens at position {begin}")
            for index in range(len(chunk)):
                row = ffi.buffer(lib.llama_get_logits_ith(context.handle, index), 4 * n_vocab)
                found[begin + index] = np.frombuffer(row, dtype=np.float32)
    finally:
        lib.llama_batch_free(batch)
    return found
