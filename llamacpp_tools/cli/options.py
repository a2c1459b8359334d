"""Values of options that several verbs take."""

from __future__ import annotations


def share(text: str, option: str) -> float:
    """`2%` or `0.02` as a number.

    Args:
        text: what the user typed.
        option: its name, for the error.

    Raises:
        BadInput: no number, or not between 0 and 1.
    """
    from llamacpp_tools.errors import BadInput

    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise BadInput(f"{option} takes a share such as 2% or 0.02, not {text}")
    return value
