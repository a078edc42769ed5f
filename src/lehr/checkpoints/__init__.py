"""Checkpoint files: reading without running anything, averaging, writing whole files. The only use of torch."""
