"""Pages that are served from this process, for clients over HTTP and for browsers."""

import contextlib
import tempfile
import threading

import pytest

from avsc_jax.serve import command as work


@contextlib.contextmanager
def serving(desk, **options):
    """Serves the page of a queue; yields its port."""
    from avsc_jax.serve.connections import server as server_of

    server = server_of(work.app(desk, '127.0.0.1', **options))
    with work._listener('127.0.0.1', 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope='session')
def served():
    """`serving`."""
    return serving


@pytest.fixture(scope='session')
def model(tmp_path_factory, write_run):
    """A small run of sound and picture, with random variables."""
    narrow = dict(embedding_size=8, widths=[2, 2, 2, 8])
    options = {
        'openl3_audio': dict(narrow, hop_s=1.0, centre=False),
        'openl3_image': dict(narrow, input_shape=[64, 64, 3]),
    }
    encoders = [{'name': n, 'options': o, 'weights': 'random:0'} for n, o in options.items()]
    inputs = {'audio_embedding': 'openl3_audio', 'image_embedding': 'openl3_image'}
    preprocessing = dict(items='clip', frames='second_centres', short_side=96, pool='mean')
    preprocessing |= dict(inputs=inputs, encoders=encoders)
    network = dict(name='feng_intermediate', embeddings={name: 8 for name in inputs}, hidden=16)
    folder = tmp_path_factory.mktemp('runs') / 'both'
    return write_run(folder, network, preprocessing, classes=['park', 'street_traffic', 'tram'])


@pytest.fixture(scope='module')
def page(model, tmp_path_factory):
    """The port of a page that takes 2 MB, the folder of its temporary files, and its queue."""
    from avsc_jax.predict.predictor import load
    from avsc_jax.serve.queue import TaggingQueue
    from avsc_jax.serve.tagger import Tagger

    tagger = Tagger(load(model), max_seconds=60.0)
    tagger.warm_up = lambda: None
    desk = TaggingQueue(lambda: tagger, max_seconds=60.0)
    desk.open().result()
    folder = tmp_path_factory.mktemp('temporary')
    with pytest.MonkeyPatch.context() as patch, serving(desk, max_mb=2.0) as port:
        patch.setattr(tempfile, 'tempdir', str(folder))
        yield port, folder, desk
