"""A table of predictions, scored: as a dictionary, as text, as report.json and report.html.

`make` scores, `trained` tells of a run that has nothing to score, `line` gives one of several
systems its line, `text` prints, `write` leaves the two files. Every number names its granularity;
the headline is the clip where clips can be formed.

The names are those of `__init__.pyi`. Each is imported on first use, for `score --help` lists the
papers' tables without loading JAX, and only `write` needs matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
