"""Scores and fuses tables of predictions, and says what disturbed clips do to a run."""
