"""The weights folder, and what is fetched into it from a local server."""

import dataclasses
import functools
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from huggingface_hub import constants, file_download

from avsc_jax import models, weights
from avsc_jax.predict import __main__ as predict
from avsc_jax.runtime import cli, download
from avsc_jax.weights import cache, first_download

ROOT = Path(__file__).parents[2]
NARROW = {'width': 2, 'layers': (1, 1, 1, 1), 'image_size': 32, 'output_dim': 512}
NARROW_TEXT = {'width': 16, 'layers': 1, 'output_dim': 512}
CONTENT = b'what the publisher has'
HASH = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, as an ordinary server and as huggingface.co give them."""

    def log_message(self, *args):
        pass

    def send_head(self):
        self.server.asked.append(self.path)
        self.path = self.path.replace('/resolve/main/', '/')
        return super().send_head()

    def send_error(self, code, *_):
        self.send_response(code)
        self.send_header('X-Error-Code', 'EntryNotFound')
        self.send_header('Content-Length', '0')
        self.end_headers()

    def end_headers(self):
        self.send_header('ETag', f'"{self.server.etag}"')
        self.send_header('X-Repo-Commit', 'a' * 40)
        super().end_headers()


@pytest.fixture
def server(tmp_path):
    """Serves `server.folder` at `server.url`; `server.asked` is what was asked for."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        server.folder, server.asked, server.etag = folder, [], '1'
        server.url = f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def published(server, monkeypatch):
    """The local server in place of OpenAI's; gives both towers' sources."""
    (server.folder / 'RN101.pt').write_bytes(CONTENT)
    for name in ('clip_rn101', 'clip_rn101_text'):
        url = f'{server.url}/RN101.pt'
        source = dataclasses.replace(weights.SOURCES[name], url=url, sha256=HASH)
        monkeypatch.setitem(weights.SOURCES, name, source)
    return server


def test_what_lacks_is_fetched_and_what_is_there_is_not(published, tmp_path):
    path = weights.download('clip_rn101', tmp_path / 'w')
    assert path == tmp_path / 'w/clip_rn101.pt' and path.read_bytes() == CONTENT
    assert weights.download('clip_rn101', tmp_path / 'w') == path
    assert published.asked == ['/RN101.pt']
    assert list(path.parent.iterdir()) == [path]


def test_the_text_tower_is_in_the_same_file(published, tmp_path):
    path = weights.download('clip_rn101_text', tmp_path)
    assert path == tmp_path / 'clip_rn101.pt'
    assert weights.download('clip_rn101', tmp_path) == path
    assert published.asked == ['/RN101.pt']
    assert weights.identify('clip_rn101_text', tmp_path) == HASH


def test_a_file_that_is_not_the_published_one_is_kept_and_told(published, tmp_path):
    mine = tmp_path / 'clip_rn101.pt'
    mine.write_bytes(b'my own')
    with pytest.raises(ValueError, match=rf'openai/CLIP publishes {HASH}: move it away'):
        weights.download('clip_rn101', tmp_path)
    assert mine.read_bytes() == b'my own' and not published.asked


def test_a_converted_file_is_enough_for_its_own_network_only(published, tmp_path):
    converted = tmp_path / 'clip_rn101.safetensors'
    weights.write({'params': {'a': np.ones(2)}}, converted, {})
    assert weights.download('clip_rn101', tmp_path) == converted
    assert not published.asked
    with pytest.raises(FileNotFoundError, match='no weights of clip_rn101_text in'):
        weights.identify('clip_rn101_text', tmp_path)
    assert weights.download('clip_rn101_text', tmp_path) == tmp_path / 'clip_rn101.pt'
    assert weights.identify('clip_rn101_text', tmp_path) == HASH
    assert weights.identify('clip_rn101', tmp_path) == weights.fingerprint(converted)


def test_a_wrong_file_from_the_server_is_not_kept(published, tmp_path):
    (published.folder / 'RN101.pt').write_bytes(b'something else')
    with pytest.raises(OSError, match=f'not {HASH}'):
        weights.download('clip_rn101', tmp_path / 'w')
    assert not list((tmp_path / 'w').iterdir())


def test_a_file_that_only_git_names_is_verified_by_that_name(server, tmp_path, monkeypatch):
    file = server.folder / 'openl3.h5.gz'
    file.write_bytes(CONTENT)
    command = ['git', 'hash-object', str(file)]
    sha1 = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    changes = dict(url=f'{server.url}/openl3.h5.gz', git_sha1=sha1)
    source = dataclasses.replace(weights.SOURCES['openl3_audio'], **changes)
    monkeypatch.setitem(weights.SOURCES, 'openl3_audio', source)
    path = weights.download('openl3_audio', tmp_path / 'w')
    assert path == tmp_path / 'w/openl3_audio.h5.gz' and path.read_bytes() == CONTENT
    path.write_bytes(b'my own')
    with pytest.raises(ValueError, match=rf"has git's SHA-1 \w+, but marl/openl3 publishes {sha1}"):
        weights.download('openl3_audio', tmp_path / 'w')
    path.unlink()
    file.write_bytes(b'something else')
    with pytest.raises(OSError, match=rf'openl3\.h5\.gz was not kept: .* publishes {sha1}'):
        weights.download('openl3_audio', tmp_path / 'w')
    assert not list((tmp_path / 'w').iterdir())


def test_a_file_without_a_stated_hash_must_equal_its_first_download(server, tmp_path, monkeypatch):
    file = server.folder / 'mn10.pt'
    file.write_bytes(CONTENT)
    source = dataclasses.replace(weights.SOURCES['mn10_as'], url=f'{server.url}/mn10.pt')
    monkeypatch.setitem(weights.SOURCES, 'mn10_as', source)
    path = weights.download('mn10_as', tmp_path / 'w')
    record = path.with_name('mn10_as.pt.download.json')
    facts = {'url': source.url, 'revision': None, 'sha256': HASH}
    assert json.loads(record.read_text())['content'] == facts
    assert weights.download('mn10_as', tmp_path / 'w').read_bytes() == CONTENT
    path.write_bytes(b'my own')
    with pytest.raises(ValueError, match=rf'but the first download from {source.url} had {HASH};'):
        weights.download('mn10_as', tmp_path / 'w')
    path.unlink()
    file.write_bytes(b'something else')
    with pytest.raises(OSError, match=rf'mn10\.pt was not kept: .* had {HASH}; put back the first'):
        weights.download('mn10_as', tmp_path / 'w')
    assert [*(tmp_path / 'w').iterdir()] == [record]


@pytest.fixture
def hub(server, monkeypatch):
    """The local server in place of huggingface.co, for weights whose hash is not known."""
    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    template = f'{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
    monkeypatch.setattr(file_download, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
    source = dataclasses.replace(
        weights.SOURCES['clip_rn101'], url=None, sha256=None, hub='timm/net/model.safetensors'
    )
    monkeypatch.setitem(weights.SOURCES, 'clip_rn101', source)
    return server


def test_without_a_known_hash_it_comes_from_the_hub(hub, tmp_path):
    (hub.folder / 'timm/net').mkdir(parents=True)
    (hub.folder / 'timm/net/model.safetensors').write_bytes(CONTENT)
    path = weights.download('clip_rn101', tmp_path / 'w')
    assert path == tmp_path / 'w/clip_rn101.safetensors' and path.read_bytes() == CONTENT
    record = path.with_name('clip_rn101.safetensors.download.json')
    assert {*path.parent.iterdir()} == {path, record}
    assert json.loads(record.read_text())['content'] == {
        'url': 'https://huggingface.co/timm/net/resolve/main/model.safetensors',
        'revision': 'a' * 40,
        'sha256': HASH,
    }
    asked = len(hub.asked)
    assert weights.download('clip_rn101', tmp_path / 'w') == path
    assert len(hub.asked) == asked
    with ThreadPoolExecutor(3) as pool:  # several at once fetch it once
        several = [pool.submit(weights.download, 'clip_rn101', tmp_path / 'v') for _ in range(3)]
    assert {one.result().read_bytes() for one in several} == {CONTENT}
    assert len(hub.asked) == 2 * asked


def test_a_later_download_must_be_the_first_one(hub, tmp_path):
    (hub.folder / 'timm/net').mkdir(parents=True)
    (there := hub.folder / 'timm/net/model.safetensors').write_bytes(CONTENT)
    path = weights.download('clip_rn101', tmp_path / 'w')
    record = path.with_name(f'{path.name}.download.json')
    other = hashlib.sha256(b'other').hexdigest()
    sentence = rf'has SHA-256 {other}, but the first download from https://\S+ at revision a{{40}} '
    sentence += rf'had {HASH}; put back the first file, or delete {record} and the file'
    path.write_bytes(b'other')
    with pytest.raises(ValueError, match=sentence):
        weights.download('clip_rn101', tmp_path / 'w')
    path.unlink()
    there.write_bytes(b'other')
    with pytest.raises(OSError, match=f'net/model.safetensors was not kept: .*{sentence}'):
        weights.download('clip_rn101', tmp_path / 'w')
    assert [*path.parent.iterdir()] == [record]
    record.write_text('{}')
    with pytest.raises(ValueError, match=r'is damaged; delete it to trust'):
        weights.download('clip_rn101', tmp_path / 'w')
    record.unlink()
    assert weights.download('clip_rn101', tmp_path / 'w').read_bytes() == b'other'


def test_what_the_hub_states_of_a_file_is_compared(hub, tmp_path, monkeypatch):
    (hub.folder / 'timm/net').mkdir(parents=True)
    (hub.folder / 'timm/net/model.safetensors').write_bytes(CONTENT)
    monkeypatch.setattr(hub, 'etag', 'f' * 64)
    with pytest.raises(OSError, match=rf'SHA-256 {HASH}, but the hub states f{{64}}; give'):
        weights.download('clip_rn101', tmp_path / 'w')
    assert not [*(tmp_path / 'w').iterdir()]
    monkeypatch.setattr(hub, 'etag', HASH)
    assert weights.download('clip_rn101', tmp_path / 'w').read_bytes() == CONTENT


def test_a_hub_without_the_file_is_one_sentence(hub, tmp_path):
    with pytest.raises(
        OSError,
        match=r'timm/net/model.safetensors was not fetched .*404.*; or get https://\S+ on another '
        r'machine and put it here as \S+/w/clip_rn101.safetensors\Z',
    ):
        weights.download('clip_rn101', tmp_path / 'w')


def test_without_a_connection_the_file_and_its_place_are_named(tmp_path, monkeypatch):
    nowhere = functools.partial(download.fetch, attempts=1)
    monkeypatch.setattr(cache, 'fetch', nowhere)
    own = dataclasses.replace(weights.source_of('clip_rn101'), url='http://127.0.0.1:9/RN101.pt')
    monkeypatch.setitem(models.published_sources(), 'clip_rn101', own)
    with pytest.raises(
        OSError,
        match=r'no connection .*; or get http://127.0.0.1:9/RN101.pt on another machine and put it '
        r'here as \S+/clip_rn101.pt\Z',
    ):
        weights.download('clip_rn101', tmp_path)


def test_an_unpublished_network_is_one_sentence(tmp_path):
    for function in (weights.download, weights.identify):
        with pytest.raises(
            ValueError, match='no weights are published for resnet1; there are clip'
        ):
            function('resnet1', tmp_path)


def test_absent_weights_are_one_sentence_with_every_way_out(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r'no weights of clip_rn50x4_text in \S+: add --download_weights \(MIT licence, from '
        r'openai/CLIP\), or put clip_rn50x4.pt \(https://\S+/RN50x4.pt\) or '
        r'clip_rn50x4.safetensors \(https://\S+.safetensors\) into that folder\Z',
    ):
        weights.identify('clip_rn50x4_text', tmp_path)


@pytest.mark.parametrize('name', ['clip_vit_b16', 'clip_vit_b16_text', 'clip_rn101'])
def test_a_file_that_is_not_the_published_one_needs_its_options(name, tmp_path, monkeypatch):
    """Others of the same names and shapes have another activation, or other pictures."""
    source = weights.source_of(name)
    file = tmp_path / f'{source.shares or name}.pt'
    file.write_bytes(CONTENT)
    sentence = (
        rf'{file.name} \(SHA-256 {HASH[:16]}\.\.\.\) is not the file that openai/CLIP publishes, '
        rf'and others of the same shapes differ in {", ".join(source.unstated)}: add these'
    )
    for options, expected in (({'width': 3}, sentence), (source.unstated[1:], name)):
        with pytest.raises(ValueError, match=expected):
            weights.identify(name, tmp_path, options=options)
    assert weights.identify(name, tmp_path, options=dict.fromkeys(source.unstated)) == HASH
    assert weights.identify(name, tmp_path) == HASH  # a run has recorded it
    known = dataclasses.replace(source, sha256=HASH)
    monkeypatch.setitem(models.published_sources(), name, known)
    assert weights.identify(name, tmp_path, options={}) == HASH


def test_what_is_made_or_downloaded_from_the_published_file_needs_no_options(tmp_path):
    file, source = tmp_path / 'clip_vit_b32.safetensors', weights.source_of('clip_vit_b32')
    for facts, is_known in (
        ({'network': 'clip_vit_b32', 'sha256': source.sha256}, True),
        ({'network': 'clip_vit_b32', 'sha256': HASH}, False),
        ({'network': 'clip_vit_b16', 'sha256': source.sha256}, False),
    ):
        weights.write({'params': {'x': np.zeros(1)}}, file, facts)
        if is_known:
            assert weights.identify('clip_vit_b32', tmp_path, options={})
            continue
        with pytest.raises(ValueError, match='is not the file that openai/CLIP publishes'):
            weights.identify('clip_vit_b32', tmp_path, options={})
    given = {'url': source.addresses[-1], 'revision': None}
    first_download.write(file, **given, sha256=weights.fingerprint(file))
    assert weights.identify('clip_vit_b32', tmp_path, options={})
    first_download.write(file, **given, sha256=HASH)
    with pytest.raises(ValueError, match='is not the file that openai/CLIP publishes'):
        weights.identify('clip_vit_b32', tmp_path, options={})


def test_other_weights_of_the_same_network_do_not_stand_in(tmp_path):
    (tmp_path / 'hrnet_w18.safetensors').write_bytes(b'')
    assert weights.identify('hrnet_w18', tmp_path)
    needed = r'hrnet_w18\.ms_in1k\.safetensors \(https://huggingface\.co/timm/hrnet_w18\.ms_in1k/'
    with pytest.raises(FileNotFoundError, match=needed):
        weights.identify('hrnet_w18.ms_in1k', tmp_path)
    (tmp_path / 'hrnet_w18.ms_in1k.npz').write_bytes(b'other')
    assert weights.identify('hrnet_w18.ms_in1k', tmp_path) != weights.identify(
        'hrnet_w18', tmp_path
    )


def test_a_file_is_found_by_name_and_checked_by_content(tmp_path):
    model = models.create_model('clip_rn101', **NARROW)
    path = tmp_path / 'clip_rn101.npz'
    np.savez(path, b=np.zeros(2))
    found = weights.identify('clip_rn101', tmp_path)
    assert found == weights.fingerprint(path)
    with pytest.raises(ValueError, match=r'clip_rn101\.npz: these are not the weights of this'):
        weights.load(model, 'clip_rn101', found, tmp_path)
    np.savez(path, b=np.zeros(3))
    with pytest.raises(ValueError, match=f'but {found} was asked for'):
        weights.load(model, 'clip_rn101', found, tmp_path)


def test_a_converted_file_is_loaded_as_it_is(tmp_path):
    model = models.create_model('clip_rn101', **NARROW)
    variables = weights.random_variables(model, 3)
    weights.write(variables, tmp_path / 'clip_rn101.safetensors', {})
    loaded = weights.load(model, 'clip_rn101', weights.identify('clip_rn101', tmp_path), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_published_weights_go_into_a_network_of_other_classes(tmp_path):
    """The head of the file is passed over, and the network's own is drawn from the key."""
    options = {'width': 4, 'layers': (1, 0, 0, 0), 'image_size': 32}
    published = weights.random_variables(models.create_model('resnet18', **options), 0)
    weights.write(published, tmp_path / 'resnet18.safetensors', {})
    origin = weights.identify('resnet18', tmp_path)
    model = models.create_model('resnet18', **options, num_classes=10)
    load = functools.partial(weights.load, model, 'resnet18', origin, tmp_path)
    with pytest.raises(ValueError, match=r'wrong shape: params/head/bias \(1000,\) for .* \(10,\)'):
        load()
    first, again, other = (load(head='drop', key=key) for key in (1, jax.random.key(1), 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    heads = [variables['params'].pop('head') for variables in (first, other)]
    assert heads[0]['kernel'].shape == (4, 10) and heads[0]['kernel'].std() > 0
    assert not np.array_equal(heads[0]['kernel'], heads[1]['kernel'])
    del published['params']['head']
    for variables in (first, other):
        jax.tree.map(np.testing.assert_array_equal, variables, published)


def test_random_weights_are_loaded_by_their_seed(tmp_path):
    model = models.create_model('clip_rn101', **NARROW)
    loaded = weights.load(model, 'clip_rn101', 'random:7', tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded, weights.random_variables(model, 7))


@pytest.fixture
def run(server, main, monkeypatch, capsys):
    """Runs a command here against a server that publishes narrow towers of CLIP, each a file."""
    monkeypatch.chdir(ROOT)
    hashes = {}
    for name, options in (('clip_rn101', NARROW), ('clip_rn101_text', NARROW_TEXT)):
        file = server.folder / f'{name}.safetensors'
        random = weights.random_variables(models.create_model(name, **options), 5)
        weights.write(random, file, {})
        hashes[name] = weights.fingerprint(file)
        changes = dict(url=f'{server.url}/{file.name}', sha256=hashes[name], shares=None)
        source = dataclasses.replace(weights.SOURCES[name], **changes)
        monkeypatch.setitem(weights.SOURCES, name, source)
    commands = {'main': main.main, 'predict': predict.main}

    def run(command, *arguments):
        monkeypatch.setattr(sys, 'argv', [command, *arguments])
        capsys.readouterr()
        code = cli.main(commands[command])
        return code, *capsys.readouterr()

    run.hashes = hashes
    return run


def zero_shot(data_dir, folder):
    return (
        'main', '--config=configs/clip_zero_shot.py:rn101,demo', '--weights=pretrained',
        f'--config.encoders.clip_rn101={NARROW}',
        f'--config.text_encoder.clip_rn101_text={NARROW_TEXT}',
        f'--data_dir={data_dir}', f'--weights_dir={folder / "w"}', f'--workdir={folder / "run"}',
    )  # fmt: skip


def test_the_flag_fetches_what_the_config_needs(run, server, tmp_path):
    command = (*zero_shot(tmp_path, tmp_path), '--dry_run')
    code, _, err = run(*command)
    assert code == 1 and not server.asked
    assert 'error: no weights of clip_rn101 in' in err and 'add --download_weights (MIT' in err
    code, out, err = run(*command, '--download_weights')
    assert code == 0, err
    assert sorted(server.asked) == ['/clip_rn101.safetensors', '/clip_rn101_text.safetensors']
    assert 'clip_rn101_text: MIT licence, from openai/CLIP' in err
    assert f' MB, SHA-256 {run.hashes["clip_rn101"]}' in err
    for name, sha256 in run.hashes.items():
        assert weights.fingerprint(tmp_path / f'w/{name}.safetensors') == sha256
        assert sha256 in out


def test_the_flag_fetches_nothing_for_random_encoders(run, server, tmp_path):
    command = (*zero_shot(tmp_path, tmp_path), '--weights=random', '--dry_run')
    code, _, err = run(*command, '--download_weights')
    assert code == 0 and not server.asked, err


@pytest.mark.slow
def test_a_run_with_fetched_weights_is_opened_where_they_are_not_yet(
    run, server, data_dir, tmp_path
):
    code, _, err = run(*zero_shot(data_dir, tmp_path), '--download_weights')
    assert code == 0, err
    environment = json.loads((tmp_path / 'run/environment.json').read_text())
    assert environment['weights'] == run.hashes
    (film, *_) = data_dir.rglob('*.mp4')
    command = (
        'predict',
        str(film),
        f'--model={tmp_path / "run"}',
        f'--weights_dir={tmp_path / "v"}',
    )
    code, _, err = run(*command)
    assert code == 1 and 'add --download_weights' in err
    code, out, err = run(*command, '--download_weights')
    assert code == 0 and film.name in out, err
    assert [file.name for file in (tmp_path / 'v').iterdir()] == ['clip_rn101.safetensors']


@pytest.mark.parametrize('name', ['tf_efficientnet_lite0', 'yamnet'])
def test_an_installed_file_fits_its_network_strictly(name, tmp_path):
    """`load` takes this for granted, as the file's hash is known."""
    model, sha256 = models.create_model(name), weights.SOURCES[name].shipped.sha256
    strict = weights.convert_file(model, cache._shipped(name))
    loaded = weights.load(model, name, sha256, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded, strict)
    of_own_head = weights.load(model, name, sha256, tmp_path, head='drop', key=1)
    kernel = of_own_head['params']['head']['kernel']
    assert kernel.shape == strict['params']['head']['kernel'].shape
    assert (kernel != strict['params']['head']['kernel']).any()
    narrow = models.create_model(name, num_classes=3)
    with pytest.raises(ValueError, match='wrong shape'):
        weights.load(narrow, name, sha256, tmp_path)
