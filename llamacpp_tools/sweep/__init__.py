"""Sweeps: configuration, plan, one worker process per cell, and the checks on what came back."""
