"""The made-up set: layout, determinism, and that it is worth classifying."""

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from avsc_jax.data import media
from avsc_jax.scenes import SCENES, parse_clip_id
from tfds_tau import demo, splits


def test_clips_cover_every_scene_at_locations_of_one_split_each():
    clips = demo.clips()
    names = {clip.clip_id: parse_clip_id(clip.clip_id) for clip in clips}
    assert len(names) == 200
    train, test = ({c.clip_id for c in clips if c.test is test} for test in (False, True))
    assert (len(train), len(test)) == (140, 60)
    assert {name.scene for name in names.values()} == set(SCENES)
    places = [{names[clip_id].location for clip_id in part} for part in (train, test)]
    assert len(places[0] | places[1]) == 100
    assert not places[0] & places[1]
    assert len({name.city for name in names.values()}) == 5
    assert len(splits.inner_split(sorted(train))) == 120
    nights = [[c.night for c in clips if c.test is test] for test in (False, True)]
    assert [sum(n) for n in nights] == [40, 20]


def test_scene_pairs_differ_in_the_other_sense():
    recipes = set(demo.RECIPES.values())
    assert len({(scene.look, scene.sound) for scene in recipes}) == len(recipes) == 10
    assert len({(scene.look, scene.look_mark) for scene in recipes}) == 10
    assert len({(scene.sound, scene.sound_mark) for scene in recipes}) == 10


def test_media_are_48_khz_stereo_24_bit_wav_and_h264(tmp_path):
    clip = demo.clips()[77]
    demo.render(tmp_path, chosen=[clip])
    info = soundfile.info(tmp_path / f'audio/{clip.clip_id}.wav')
    assert (info.samplerate, info.channels, info.frames) == (48000, 2, 480000)
    assert info.subtype == 'PCM_24'
    samples, _ = soundfile.read(tmp_path / f'audio/{clip.clip_id}.wav')
    assert 0.001 < np.abs(samples).max() < 1
    with av.open(str(tmp_path / f'video/{clip.clip_id}.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ('h264', 256, 144)
        assert (stream.frames, stream.average_rate) == (100, 10)


def test_rendering_is_deterministic_and_keeps_what_is_there(tmp_path):
    chosen = demo.clips()[5:8]
    options = dict(chosen=chosen, duration_s=1, sample_rate_hz=8000)
    one = demo.render(tmp_path / 'one', workers=1, **options)
    two = demo.render(tmp_path / 'two', workers=3, **(options | {'chosen': chosen[::-1]}))
    for clip in chosen:
        for name in (f'audio/{clip.clip_id}.wav', f'video/{clip.clip_id}.mp4'):
            assert (one / name).read_bytes() == (two / name).read_bytes()
    kept = one / f'audio/{chosen[0].clip_id}.wav'
    kept.write_bytes(b'mine')
    demo.render(one, **options)
    assert kept.read_bytes() == b'mine'
    assert not list(one.rglob('*.tmp'))


def features(folder, clip):
    """Colour and contrast on an 8 x 8 grid; level and spread of 64 bands of the spectrum."""
    frames = media.read_frames(folder / f'video/{clip.clip_id}.mp4', 'clip12').images
    small = [Image.fromarray(image).resize((64, 64)) for image in frames]
    cells = np.stack([np.asarray(image) for image in small]).reshape(12, 8, 8, 8, 8, 3) / 255
    sound, rate = media.read_audio(folder / f'audio/{clip.clip_id}.wav')
    power = np.abs(np.fft.rfft(sound.mean(1).reshape(-1, rate // 20) * np.hanning(rate // 20))) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1] - 1, 65).astype(int))
    bands = np.log(np.add.reduceat(power, edges, axis=1) + 1e-9)
    picture = np.concatenate([cells.mean((0, 2, 4)), cells.std((2, 4)).mean(0)]).ravel()
    return np.concatenate([bands.mean(0), bands.std(0)]), picture


@pytest.mark.slow
def test_one_sense_is_clearly_worse_than_both_and_night_fools_the_picture(whole_demo):
    clips = demo.clips()
    sound, picture = map(np.stack, zip(*(features(whole_demo, c) for c in clips), strict=True))
    labels = np.asarray([SCENES.index(c.clip_id.split('-')[0]) for c in clips])
    night = np.asarray([c.night for c in clips])

    def judge(x, strength):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=3000))
        folds = dict(groups=[c.place for c in clips], cv=GroupKFold(5))
        probs = cross_val_predict(model, x, labels, method='predict_proba', **folds)
        return probs.argmax(1) == labels, log_loss(labels, probs)

    heard, heard_loss = judge(sound, 0.05)
    seen, seen_loss = judge(picture, 0.005)
    both, both_loss = judge(np.hstack([sound, picture]), 0.02)
    assert 0.5 < heard.mean() < 0.8
    assert 0.5 < seen.mean() < 0.8
    assert both.mean() > 0.1 + max(heard.mean(), seen.mean())
    assert both_loss < min(heard_loss, seen_loss) - 0.2
    assert seen[night].mean() < seen[~night].mean() - 0.2
    assert heard[night].mean() > heard[~night].mean() - 0.15
