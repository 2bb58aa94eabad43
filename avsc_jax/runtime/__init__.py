"""Services for every command that do not depend on scenes: errors, processes, compiler, files."""
