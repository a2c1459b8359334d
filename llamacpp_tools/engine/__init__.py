"""Model, context, plain decode and MTP draft-and-verify over one sequence; `Session.generate` is where to begin."""

from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.generate import Generation
from llamacpp_tools.engine.model import Model
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.sampling import Sampling
from llamacpp_tools.engine.session import Session, SessionOptions

__all__ = [
    "Context",
    "ContextOptions",
    "Generation",
    "Model",
    "Recipe",
    "Sampling",
    "Session",
    "SessionOptions",
]
