"""Training of the miniature that ships: corpus, tokenizer, model, trainer, export and the checks on it."""
