import re
from urllib.parse import urlsplit

import pytest

from avsc_jax import models, weights

IMAGE_TOWERS = [name for name, source in weights.SOURCES.items() if not source.shares]
CLIP = [name for name in weights.SOURCES if name.startswith('clip_')]


@pytest.mark.parametrize('name', IMAGE_TOWERS)
def test_a_source_fits_its_network(name):
    source = weights.SOURCES[name]
    assert models.input_spec(name).shape == (1, source.image_size, source.image_size, 3)


@pytest.mark.parametrize('name', weights.SOURCES)
def test_a_source_says_who_published_what_and_where(name):
    source = weights.SOURCES[name]
    assert source.publisher and source.licence
    for address in source.addresses:
        assert urlsplit(address).scheme == 'https'
        assert address.endswith(weights.SUFFIXES)
    assert re.search(r'\.co/[\w.]+/[\w.]+/resolve/main/\S+\.safetensors$', source.addresses[-1])
    assert bool(source.url) == bool(source.sha256)  # nothing is fetched that cannot be verified
    if source.url:
        assert source.addresses[0] == source.url
        assert re.fullmatch('[0-9a-f]{64}', source.sha256)


@pytest.mark.parametrize('name', CLIP)
def test_openai_names_each_file_by_its_hash(name):
    source = weights.SOURCES[name]
    assert f'/{source.sha256}/' in source.url
    assert (source.mean[0], source.std[2]) == (0.48145466, 0.27577711)  # CLIP's, not ImageNet's


@pytest.mark.parametrize('name', CLIP)
def test_both_towers_of_clip_lie_in_one_file(name):
    image, source = weights.SOURCES[name.removesuffix('_text')], weights.SOURCES[name]
    assert source.sha256 == image.sha256
    assert source.shares == (name.removesuffix('_text') if name.endswith('_text') else None)
    assert name in models.list_models()
