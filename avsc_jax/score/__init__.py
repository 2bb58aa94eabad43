"""Scores and mixes tables of predictions, and scores runs on disturbed clips."""
