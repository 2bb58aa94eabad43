"""Pages that are served from this process, for clients over HTTP and for browsers."""

import base64
import contextlib
import re
import shutil
import tempfile
import threading

import numpy as np
import pytest

from avsc_jax.report import explanation
from avsc_jax.serve import command as work
from avsc_jax.serve.queue import Refusal, TaggingQueue

CLASSES = ('airport', 'park', 'street_traffic')
DROP = """async ([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, {type: 'video/mp4'}));
  const event = {bubbles: true, cancelable: true, dataTransfer: dropped};
  document.getElementById('drop').dispatchEvent(new DragEvent('drop', event));
}"""


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
    from avsc_jax.serve.tagger import Tagger

    tagger = Tagger(load(model), max_seconds=60.0)
    tagger.warm_up = lambda: None
    desk = TaggingQueue(lambda: tagger, max_seconds=60.0)
    desk.open().result()
    folder = tmp_path_factory.mktemp('temporary')
    with pytest.MonkeyPatch.context() as patch, serving(desk, max_mb=2.0) as port:
        patch.setattr(tempfile, 'tempdir', str(folder))
        yield port, folder, desk


class Scripted:
    """In the place of a tagger: its clips have some windows, and wait where a test says."""

    def __init__(
        self,
        takes=('sound', 'picture'),
        classes=CLASSES,
        kind='exclusive',
        windows=12,
        window_s=1.0,
    ):
        self.facts = dict(title='scripted', classes=classes, takes=takes, kind=kind, warnings=[])
        self.windows, self.window_s = windows, window_s
        self.is_compiling, self.given_up = False, None
        self.may_load, self.may_compile, self.may_go_on = (threading.Event() for _ in range(3))
        self.reached = threading.Event()
        self.step = self.labels = None

    def load(self):
        self.may_load.wait(60)
        return self

    def warm_up(self):
        self.may_compile.wait(60)

    def about(self):
        return self.facts

    def tag(self, file, name, progress, given_up):
        if self.step:
            progress.set(*self.step)
            self.given_up = given_up
            self.reached.set()
            while not self.may_go_on.wait(0.02):
                if given_up.is_set():
                    raise Refusal(499, 'the client has disconnected')
        classes, rows = self.facts['classes'], np.eye(len(self.facts['classes'])) * 0.6
        rows = rows + 0.4 / len(classes)
        spans = [(float(k), k + self.window_s, rows[k % 2]) for k in range(self.windows)]
        ordered = lambda row: [  # noqa: E731
            {'scene': classes[c], 'p': float(row[c])} for c in np.argsort(-row, kind='stable')
        ]
        timeline = [
            {'start_s': s, 'end_s': e, 'scene': ordered(r)[0]['scene'], 'scenes': ordered(r)}
            for s, e, r in spans
        ]
        return {
            'scenes': ordered(rows[0]),
            **({} if self.labels is None else {'labels': self.labels}),
            'timeline': timeline,
            'notes': ['a note'],
            'seconds': 1.0,
            'explanation_html': explanation.document(name, classes, spans, [], ['a note'], []),
        }


@pytest.fixture(scope='module')
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    names = ('chromium', 'chromium-browser', 'google-chrome')
    binary = next(filter(None, map(shutil.which, names)))
    flags = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
    flags += ['--autoplay-policy=no-user-gesture-required']
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=binary, args=flags) as browser,
    ):
        yield browser


@pytest.fixture
def scripted_port():
    """Serves a scripted tagger."""

    @contextlib.contextmanager
    def serve(tagger, is_ready=True):
        gates = (tagger.may_load, tagger.may_compile, tagger.may_go_on)
        for gate in gates[:2] if is_ready else ():
            gate.set()
        desk = TaggingQueue(tagger.load)
        desk.open()
        with serving(desk) as port:
            yield port
            for gate in gates:
                gate.set()

    return serve


@pytest.fixture(scope='session')
def scripted():
    """`Scripted`."""
    return Scripted


@pytest.fixture
def opened(browser, scripted_port):
    """Opens the page of a port or a scripted tagger; what the browser complains of fails a test."""
    complaints = []
    with contextlib.ExitStack() as stack:

        def open_page(of, *, is_ready=True, **options):
            port = of if isinstance(of, int) else stack.enter_context(scripted_port(of, is_ready))
            tab = stack.enter_context(contextlib.closing(browser.new_context(**options))).new_page()
            tab.set_default_timeout(20_000)
            tab.on('pageerror', lambda error: complaints.append(str(error)))
            tab.on('console', lambda line: complaints.append(line.text))
            tab.goto(f'http://127.0.0.1:{port}/')
            if is_ready:
                tab.get_by_text(re.compile(' knows ')).wait_for()
            return tab

        yield open_page
    assert not complaints


@pytest.fixture(scope='session')
def drop():
    """Drops a clip on the page of a tab; waits for its answer unless told otherwise."""

    def drop(tab, data=b'x', name='clip.mp4', *, answered=True):
        tab.evaluate(DROP, [base64.b64encode(data).decode(), name])
        if answered:
            tab.get_by_text(re.compile('^Done in')).wait_for()
            tab.locator('#name', has_text=name).wait_for()

    return drop
