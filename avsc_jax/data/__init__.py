"""Media, records, batches."""
