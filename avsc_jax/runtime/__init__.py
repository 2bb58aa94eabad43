"""What every command needs and what knows nothing of scenes: errors, processes, compiler, files."""
