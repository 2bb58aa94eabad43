"""Names of files as text."""


def printable(value: object) -> str:
    """A name from a file, without the control characters that could move a terminal's cursor."""
    return ''.join(c if c.isprintable() else '�' for c in str(value))
