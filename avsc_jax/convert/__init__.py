"""Published weights, converted once to this package's own names and layouts."""
