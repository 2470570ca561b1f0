"""Measures what the library costs, each figure next to its floor in the same run."""
