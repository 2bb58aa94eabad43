"""Run folders: training writes them; predict, score, export and ensembles open them."""
