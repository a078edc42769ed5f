"""Decisions on annealing from a fitted law."""
