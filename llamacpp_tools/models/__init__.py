"""Model files: reading their headers, writing synthetic ones, the memory they need."""
