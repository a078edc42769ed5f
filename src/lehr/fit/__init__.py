"""Fitting: laws and runs to a `FitResult`, its uncertainty, and comparison on left-out runs."""
