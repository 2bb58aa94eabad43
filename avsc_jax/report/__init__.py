"""Reports on a table of predictions: a dictionary of scores, its text, report.json and report.html.

`make` scores a table, `trained` reports on a run that has nothing to score, `line` scores one of
several systems, `text` gives the text for a console, `write` writes the two files. Every number
names its granularity; the headline is that of clips, if clips can be formed.

The names are those of `__init__.pyi`. Each is imported on first use, for `score --help` lists the
papers' tables without loading JAX, and only `write` needs matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
