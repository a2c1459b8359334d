"""A result for people and for other programs: tables, figures, one page, llama-bench's rows."""
