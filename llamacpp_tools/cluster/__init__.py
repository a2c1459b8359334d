"""Cells over boxes: a sweep spread over machines that a Dask scheduler knows (extra `cluster`)."""
