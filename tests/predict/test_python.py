"""The way to tag a clip from Python: by its path, with one sentence where that cannot be."""

import inspect
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from avsc_jax.predict import Predictor, media_files
from avsc_jax.training import load_run


def test_a_clip_is_tagged_by_its_path(both, film, tmp_path):
    tagger = Predictor.load(both)
    clip = film(tmp_path / 'a.mp4', 3.0)
    found = tagger(str(clip), window_s=2.0)
    assert found.file == clip and len(found.windows) == 2 and found.error is None
    (whole,) = media_files.tag(tagger, [clip], window_s=2.0)
    np.testing.assert_array_equal(found.probs, whole.probs)
    names, probs = zip(*found.ranking, strict=True)
    assert {*names} == {'park', 'tram'} and found.scene == names[0]
    assert probs == tuple(sorted(found.probs, reverse=True)) and sum(probs) == pytest.approx(1)


def test_a_clip_that_cannot_be_tagged_is_one_sentence(both, film, tmp_path):
    tagger = Predictor.load(str(both))
    (tmp_path / 'a.mp4').write_text('no film')
    with pytest.raises(ValueError, match=r'a\.mp4'):
        tagger(tmp_path / 'a.mp4')
    silent = film(tmp_path / 'b.mp4', sound=False)
    assert 'answered without sound' in ' '.join(tagger(silent).notes)
    with pytest.raises(ValueError, match='is incomplete'):
        tagger(silent, fallback=False)
    with pytest.raises(FileNotFoundError, match='does not hold a complete run'):
        Predictor.load(tmp_path)


@pytest.mark.slow
def test_the_examples_of_the_docstrings_run(both, film, tmp_path, monkeypatch, capsys):
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs/clip_fusion').symlink_to(both)
    film(tmp_path / 'clip.mp4', 3.0)
    monkeypatch.chdir(tmp_path)
    variables = {}
    for documented in (Predictor, Predictor.load, Predictor.__call__, load_run):
        (example,) = re.findall(r'\n\n((?: {4}.*\n|\n)+)(?=\n\w)', inspect.getdoc(documented))
        exec(compile(textwrap.dedent(example), documented.__qualname__, 'exec'), variables)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith(f'{third} [') and third in ('park', 'tram')


def test_importing_predict_loads_nothing_heavy():
    code = 'import sys, avsc_jax.predict; print("jax" in sys.modules, "numpy" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split() == ['False', 'False'], done.stderr
