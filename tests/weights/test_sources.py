import re

import pytest

from avsc_jax import models, weights


@pytest.mark.parametrize('name', weights.SOURCES)
def test_a_source_fits_its_network(name):
    source = weights.SOURCES[name]
    assert models.input_spec(name).shape == (1, source.image_size, source.image_size, 3)
    assert re.fullmatch('[0-9a-f]{64}', source.sha256)
    assert source.sha256 in source.url
    assert (source.mean[0], source.std[2]) == (0.48145466, 0.27577711)  # CLIP's, not ImageNet's
