"""Makes benchmarks/fuzz.py importable, which holds the readers and the damage."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))
