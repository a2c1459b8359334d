"""llt: carry patches on a pinned llama.cpp, build it, and measure which decode levers pay."""

__version__ = "0.1.0"
