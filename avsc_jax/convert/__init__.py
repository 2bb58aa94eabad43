"""Converts published weights to this package's own names and layouts."""
