"""From a record, or a media file, to the inputs of a network."""
