"""llt: carry patches on a pinned llama.cpp, build it, and measure which decode levers pay."""

import logging

__version__ = "0.1.0"

# As a library llt says nothing by itself: what goes wrong is in the exception, and libllama's log in `logging`.
logging.getLogger(__name__).addHandler(logging.NullHandler())
