"""Scores and prices to a choice: pure functions of arrays."""
