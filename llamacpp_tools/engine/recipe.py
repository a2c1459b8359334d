"""The SWA recipe as the patched library takes it: key/value overrides of the model's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WINDOW_KEY = "dynsparse.swa.window"
FULL_LAYERS_KEY = "dynsparse.swa.full_layers"
_STRING_BYTES = 127


@dataclass(frozen=True)
class Recipe:
    """A sliding window on every full-attention layer but those named.

    Attributes:
        window: tokens that a windowed layer sees, the current one included.
        full_layers: indices of layers that stay full.
    """

    window: int
    full_layers: tuple[int, ...] = ()

    def overrides(self) -> dict[str, int | str]:
        """The recipe as metadata overrides; the library checks them against the model when it loads."""
        values: dict[str, int | str] = {WINDOW_KEY: self.window}
        if self.full_layers:
            values[FULL_LAYERS_KEY] = ",".join(str(layer) for layer in self.full_layers)
        return values


def override_array(ffi: Any, lib: Any, values: dict[str, int | str]) -> Any:
    """A C array of `llama_model_kv_override`, closed by an entry with an empty key.

    Raises:
        ValueError: a string value is longer than the 127 bytes an override can hold.
    """
    array = ffi.new("struct llama_model_kv_override[]", len(values) + 1)
    for entry, (key, value) in zip(array, values.items(), strict=False):
        entry.key = key.encode()
        if isinstance(value, int):
            entry.tag = lib.LLAMA_KV_OVERRIDE_TYPE_INT
            entry.val_i64 = value
        else:
            if len(value.encode()) > _STRING_BYTES:
                raise ValueError(f"{key} is longer than {_STRING_BYTES} bytes")
            entry.tag = lib.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.val_str = value.encode()
    return array
