"""Runs: what was trained, under which schedule, with which losses; readers; the store."""
