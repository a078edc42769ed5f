"""Decisions on the peak LR from sweeps of final losses, and the published laws beside them."""
