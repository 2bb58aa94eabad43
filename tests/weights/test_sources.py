import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from avsc_jax import models, weights
from avsc_jax.input_pipeline.transform import Squares

PICTURE = Path(__file__).parents[1] / 'data_files' / 'cat.jpg'

IMAGE_TOWERS = [name for name, source in weights.SOURCES.items() if not source.shares]
TIMM = [name for name, source in weights.SOURCES.items() if source.hub and source.url is None]
STATE_NO_HASH = ('fschmid56/EfficientAT',)  # a release on GitHub
CLIP = [name for name in weights.SOURCES if name.startswith('clip_')]


@pytest.mark.parametrize('name', IMAGE_TOWERS)
def test_a_source_fits_its_network(name):
    source = weights.SOURCES[name]
    if source.image_size:
        assert models.input_spec(name).shape == (1, source.image_size, source.image_size, 3)


@pytest.mark.parametrize('name', weights.SOURCES)
def test_a_source_says_who_published_what_and_where(name):
    source = weights.SOURCES[name]
    assert source.publisher and source.licence
    for address in source.addresses:
        assert urlsplit(address).scheme == 'https'
        assert address.endswith(weights.SUFFIXES)
    if source.hub:
        last = source.addresses[-1]
        assert re.search(r'\.co/[\w.]+/[\w.]+/resolve/main/\S+\.safetensors$', last)
    if source.url:
        assert source.addresses[0] == source.url
        hashes = f'{source.sha256} {source.git_sha1}'
        unhashed = '|None None' * (source.publisher in STATE_NO_HASH)
        assert re.fullmatch(f'[0-9a-f]{{64}} None|None [0-9a-f]{{40}}{unhashed}', hashes)


def test_the_page_lists_which_files_have_a_known_hash():
    """docs/weights.md; its rows are these."""
    rows = []
    for name, source in weights.SOURCES.items():
        if not source.shares:
            sum_ = f'SHA-256 `{source.sha256}`' if source.sha256 else ''
            sum_ = f'git `{source.git_sha1}`' if source.git_sha1 else sum_ or 'first download'
            place = f'<{source.addresses[0]}>' if source.addresses else ''
            if source.shipped:
                place = f'installed: `{source.shipped.file}` of `{source.shipped.package}`'
                sum_ = f'SHA-256 `{source.shipped.sha256}`'
            facts = (f'`{name}`', source.licence, place, sum_)
            rows.append(f'| {" | ".join(facts)} |')
    page = (Path(weights.__file__).parents[2] / 'docs/weights.md').read_text()
    listed = [line for line in page.splitlines() if line.startswith('| `')]
    assert sorted(listed) == sorted(rows)


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


def published(timm, source):
    """What timm says of the weights."""
    return timm.models.get_pretrained_cfg(source.hub.split('/')[1])


@pytest.mark.parity
@pytest.mark.parametrize('name', TIMM)
def test_the_figures_are_timm_s(timm, name):
    source = weights.SOURCES[name]
    peer = published(timm, source)
    assert f'{peer.hf_hub_id}/model.safetensors' == source.hub
    assert peer.license.lower() == source.licence.lower()
    assert peer.input_size == (3, source.image_size, source.image_size)
    assert (peer.crop_pct, peer.interpolation) == (source.crop_fraction, source.interpolation)
    assert (peer.mean, peer.std) == (source.mean, source.std)
    assert {'center': 'short side', 'squash': 'both sides'}[peer.crop_mode] == source.resize


@pytest.mark.parity
@pytest.mark.parametrize('name', ['resnest50d', 'tf_efficientnet_b1_ns', 'efficientnet_b5'])
def test_pictures_are_prepared_as_by_timm(timm, name):
    """Bilinear, bicubic, and squashed."""
    source = weights.SOURCES[name]
    config = timm.data.resolve_data_config(pretrained_cfg=published(timm, source).to_dict())
    picture = Image.open(PICTURE).convert('RGB').resize((800, 600))
    expected = timm.data.create_transform(**config)(picture).permute(1, 2, 0).numpy()
    squares = Squares(source, source.image_size)
    found = squares.prepare(np.stack(squares.items({'frames': [np.asarray(picture)]})))[0]
    assert found.shape == expected.shape
    off = np.abs(found - expected) * 255 * np.array(source.std)  # in bytes
    assert off.max() < 1e-3  # the same bytes, normalised in float32
