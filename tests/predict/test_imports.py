"""What the command imports before it answers."""

import subprocess
import sys

# each takes a tenth of a second or more, PyTorch two seconds, where it is installed
NOT_NEEDED = ('grain', 'tensorboardX', 'torch', 'matplotlib', 'tensorflow', 'transformers')


def test_predict_imports_no_library_that_it_may_not_need():
    code = f'import sys, avsc_jax.predict.command; print(*{{*{NOT_NEEDED}}} & {{*sys.modules}})'
    line = [sys.executable, '-c', code]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == '\n'
