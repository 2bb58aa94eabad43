"""Run folders: what a trained system leaves, and what predict, score and export open."""
