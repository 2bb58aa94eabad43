"""Exports a run for other programs: ONNX with a recipe, and StableHLO."""
