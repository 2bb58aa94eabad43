"""Makes avsc_jax/weights/shipped/yamnet.safetensors of a file of the published weights.

python tests/weights/make_shipped.py yamnet.h5

Kernels are stored in float16, statistics and biases in float32: 528 variances are below what
float16 holds.
"""

import sys
from pathlib import Path

import numpy as np
from flax import traverse_util

from avsc_jax import weights
from avsc_jax.weights.cache import SHIPPED

ABOUT = {
    'network': 'yamnet',
    'publisher': 'tensorflow/models, research/audioset/yamnet',
    'licence': 'Apache-2.0',
    'changes': 'kernels in float16, renamed for Flax',
}

if __name__ == '__main__':
    variables = weights.convert('yamnet', weights.read(Path(sys.argv[1])))
    leaves = {
        path: value.astype(np.float16) if path[-1] == 'kernel' else value
        for path, value in traverse_util.flatten_dict(variables).items()
    }
    path = SHIPPED / 'yamnet.safetensors'
    weights.write(traverse_util.unflatten_dict(leaves), path, ABOUT)
    print(path, weights.fingerprint(path))
