"""Files that torch wrote: golden ones of make_goldens.py, and live ones under `parity`."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import weights

GOLDENS = Path(__file__).parent / 'goldens'
ROW = np.arange(6, dtype=np.float32)
STATE = {
    'columns': ROW.reshape(2, 3).T,
    'tail': ROW[4:],
    'every_second': ROW[::2],
    'half': np.float16([0.5, -2]),
    'brain': np.float32([1.5, -3]),
    'steps': np.array(7),
    'flags': np.array([True, False]),
    'bytes': np.uint8([1, 255]),
    'double': np.float64([0.1]),
    'none': np.zeros((0, 3), np.float32),
    'parameter': np.ones(2, np.float32),
}
SCRIPT = {
    'visual.conv1.weight': np.float16([0.5, -0.25]).reshape(2, 1, 1, 1),
    'visual.layer1.0.weight': np.arange(4, dtype=np.float16).reshape(2, 2),
    'visual.layer1.0.bias': np.float16([1, 2]),
    'logit_scale': np.float16(4.5),
    'input_resolution': np.array(224),
}
EXPECTED = {'zip.pth': STATE, 'stream.pth': STATE, 'script.pt': SCRIPT}


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, strict=True, err_msg=name)


@pytest.mark.parametrize('file', EXPECTED)
def test_every_kind_of_file_gives_what_torch_put_in(file):
    check_equal(weights.read(GOLDENS / file), EXPECTED[file])


@pytest.mark.parametrize('file', EXPECTED)
def test_a_file_cut_short_anywhere_is_one_sentence(file, tmp_path):
    whole = (GOLDENS / file).read_bytes()
    path = tmp_path / file
    for kept in [*range(0, len(whole) - 1, 7), len(whole) - 1]:
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=rf'{file} cannot be read as \S+ weights: .*\Z'):
            weights.read(path)


@pytest.mark.parametrize(
    'file',
    [pytest.param(file, marks=[pytest.mark.slow] * (file != 'zip.pth')) for file in EXPECTED],
)
def test_a_damaged_file_is_an_error_or_arrays_and_nothing_else(file, tmp_path):
    random = np.random.default_rng(0)
    whole = (GOLDENS / file).read_bytes()
    path = tmp_path / file
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            state = weights.read(path)
        except ValueError as error:
            assert 'cannot be read' in str(error)
            assert len(str(error).splitlines()) == 1
        else:
            assert all(type(value) is np.ndarray for value in state.values())


def rewritten(tmp_path, changes, file='zip.pth', **options):
    """A golden archive, with members replaced or, where None, left out."""
    path = tmp_path / file
    with zipfile.ZipFile(GOLDENS / file) as source:
        members = {name: source.read(name) for name in source.namelist()} | changes
    with zipfile.ZipFile(path, 'w', **options) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_an_archive_from_a_big_endian_machine_is_refused(tmp_path):
    check_equal(weights.read(rewritten(tmp_path, {'zip/byteorder': None})), STATE)
    with pytest.raises(ValueError, match='big-endian'):
        weights.read(rewritten(tmp_path, {'zip/byteorder': b'big'}))


def test_what_should_not_be_compressed_is_not_unpacked(tmp_path):
    path = rewritten(tmp_path, {'zip/data/0': bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ValueError, match="'zip/byteorder' is compressed, which PyTorch never does"):
        weights.read(path)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'zip/data/0': None}, "no member 'zip/data/0'"),
        ({'zip/data/0': bytes(20)}, "storage '0' has 20 bytes, not 24"),
        ({'zip/data/0': bytes(28)}, "'zip/data/0' claims 28 bytes, not 24"),
        ({'zip/data.pkl': None}, 'has 0 members data.pkl, not one'),
        ({'other/data.pkl': b''}, 'has 2 members data.pkl, not one'),
        ({'zip/data.pkl': bytes(5 << 20)}, "'zip/data.pkl' claims 5,242,880 bytes, not 4,194,304"),
    ],
)
def test_members_that_do_not_fit_the_description_are_named(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        weights.read(rewritten(tmp_path, changes))


def test_a_member_that_claims_more_than_the_file_is_not_read(tmp_path):
    path = rewritten(tmp_path, {})
    content = bytearray(path.read_bytes())
    place = content.rindex(b'PK\1\2', 0, content.rindex(b'zip/data.pkl'))
    content[place + 24 : place + 28] = b'\xf0\xff\xff\xff'  # its size in the directory
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'zip/data.pkl' claims 4,294,967,280 bytes"):
        weights.read(path)


def test_names_of_members_lead_nowhere(tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    absurd = {'../../escaped/x': b'1', '/etc/escaped': b'1', 'x' * 60_000: b'1'}
    check_equal(weights.read(rewritten(folder, absurd)), STATE)
    assert list(tmp_path.rglob('*')) == [folder, folder / 'zip.pth']


def test_a_stream_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / 'w.pth'
    with path.open('wb') as file:
        file.write((GOLDENS / 'stream.pth').read_bytes()[:200])
        file.truncate(1 << 30)  # the rest takes no disk
    tracemalloc.start()
    with pytest.raises(ValueError, match='cannot be read'):
        weights.read(path)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def save_all(torch, content, folder):
    for name, new in (('zip.pth', True), ('stream.pth', False)):
        torch.save(content, folder / name, _use_new_zipfile_serialization=new)
        yield folder / name


@pytest.fixture
def torch():
    return pytest.importorskip('torch')


@pytest.mark.parity
@pytest.mark.parametrize(
    'dtype',
    [
        'float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8',
        'bool', 'complex64', 'complex128',
    ],
)  # fmt: skip
def test_layouts_of_every_type_are_read_as_torch_reads_them(tmp_path, torch, dtype):
    values = (torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 50).to(
        getattr(torch, dtype)
    )
    state = {
        'whole': values,
        'transposed': values.permute(2, 0, 1),
        'part': values[1:, ::2, 3],
        'shared': values.view(-1)[7:40],
        'scalar': values[3, 4, 5],
        'channels_last': values[None].contiguous(memory_format=torch.channels_last),
        'row': values[0, 0].expand(1, 6),
        'none': values[:0],
    }
    for path in save_all(torch, {'model': state, 'epoch': 3}, tmp_path):
        found = weights.read(path)
        assert found.keys() == state.keys()
        for name, value in state.items():
            value = value.float() if dtype == 'bfloat16' else value
            np.testing.assert_array_equal(found[name], value.numpy(), strict=True, err_msg=name)


NARROW = {
    'RN50': ('clip_rn101', {'width': 64, 'layers': (1, 2, 1, 1), 'output_dim': 1024}),
    'ViT-B-32': ('clip_vit_b32', {'width': 64, 'layers': 2}),
}


@pytest.mark.parity
@pytest.mark.filterwarnings('ignore')  # torch's about its own tracing
@pytest.mark.parametrize('precision', ['float32', 'float16'])
@pytest.mark.parametrize('peer', NARROW)
def test_an_archive_of_clip_in_the_layout_of_openai(tmp_path, torch, open_clip, peer, precision):
    name, options = NARROW[peer]
    settings = open_clip.get_model_config(peer)
    layers = options['layers'] if peer == 'ViT-B-32' else list(options['layers'])
    settings['vision_cfg'] |= {'width': 64, 'layers': layers, 'image_size': 64}
    settings['text_cfg'] |= {'width': 64, 'heads': 1, 'layers': 2}
    network = open_clip.CLIP(**settings, quick_gelu=True).eval()
    example = torch.ones(1, 3, 64, 64), torch.ones(1, 77, dtype=torch.long)
    if precision == 'float16':  # as OpenAI's: matrices and convolutions, but not the norms
        open_clip.convert_weights_to_lp(network)
        network.visual.register_forward_pre_hook(lambda _, inputs: (inputs[0].half(),))
    vars(network).pop('context_length'), vars(network).pop('vocab_size')
    for said, size in (('input_resolution', 64), ('context_length', 77), ('vocab_size', 49408)):
        network.register_buffer(said, torch.tensor(size))
    torch.jit.trace(network, example, check_trace=False).save(tmp_path / 'w.pt')

    found = weights.read(tmp_path / 'w.pt')
    expected = torch.jit.load(tmp_path / 'w.pt').state_dict()
    assert {str(value.dtype) for value in found.values()} >= {precision, 'int64'}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value.numpy(), strict=True, err_msg=key)
    del found['attn_mask']  # open_clip's own, a buffer there
    weights.convert(name, found, image_size=64, **options)
    size = {'width': 64, 'layers': 2, 'output_dim': settings['embed_dim']}
    text = weights.convert(f'{name}_text', found, **size)
    np.testing.assert_array_equal(
        text['params']['text_projection']['kernel'], network.text_projection.detach().float()
    )
