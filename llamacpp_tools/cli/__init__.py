"""The command line: one file per verb, each parses, calls the core, and prints."""
