"""Benchmarks: accuracy and speed, as runnable modules whose JSON is a contract."""
