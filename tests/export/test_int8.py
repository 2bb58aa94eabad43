"""ONNX files of 8-bit integers: what they hold, how far from the run they are, and who decides."""

import json

import jax
import numpy as np
import pytest

from avsc_jax.export import __main__ as export
from avsc_jax.predict import dataset, predictor
from avsc_jax.runs.load import load_system
from avsc_jax.runs.run_folder import RunFolder

pytestmark = pytest.mark.parity


def of_8_bits(file):
    """The numbers of weights of 8 and of 32 bits in matrices and convolutions of a file."""
    import onnx

    kinds = {onnx.TensorProto.INT8: 0, onnx.TensorProto.FLOAT: 0}
    for weight in onnx.load(file).graph.initializer:
        if len(weight.dims) > 1 and weight.data_type in kinds:
            kinds[weight.data_type] += int(np.prod(weight.dims))
    return [*kinds.values()]


def exported(run, data_dir, out):
    """Exports with any loss of accuracy allowed; returns the recipe."""
    arguments = [str(run), str(out), '--format=onnx', '--int8', f'--data_dir={data_dir}']
    assert export.main(arguments) == 0
    return json.loads((out / 'recipe.json').read_text())


def heard(run, data_dir, split):
    """The inputs of the network for each clip of a split, and their labels."""
    from avsc_jax.data import sources

    opened, system = predictor.load(run, None), load_system(run)
    config = RunFolder(run).config
    data = sources.named(config['data']['name'] + '/' + config['data']['config'], data_dir)
    records = [*dataset.records(opened, data, split, data_dir)]
    inputs = [jax.device_get(jax.jit(system.inputs)(system.items(record))) for record in records]
    return system, inputs, np.array([record['label'] for record in records])


def test_a_network_of_convolutions_has_8_bits_and_the_recipe_tells_its_accuracy(
    finished_run, data_dir, tmp_path, monkeypatch, capsys
):
    import onnxruntime

    from avsc_jax.export import int8

    monkeypatch.setattr(int8, 'MOST_LOST', 1.0)  # ten clips of 2 s tell no accuracy
    run, out = finished_run('hitachi_image'), tmp_path / 'out'
    told = exported(run, data_dir, out)['int8']
    assert told['files'] == {
        'network': {'file': 'network.int8.onnx', 'ranges': 'from calibration clips'}
    }
    assert told['too_inexact'] == [] and told['calibrated_on'] == {'split': 'train', 'clips': 20}
    small, large = of_8_bits(out / 'network.int8.onnx')
    assert small > 1000 and large < 20  # what is left are scales
    assert of_8_bits(out / 'network.onnx')[0] == 0
    system, inputs, labels = heard(run, data_dir, 'test')
    session = onnxruntime.InferenceSession(out / 'network.int8.onnx')
    answers = np.stack([session.run(None, given)[0].mean(0) for given in inputs])
    expected = np.stack([np.asarray(system.network(given)).mean(0) for given in inputs])
    held = told['held_out']
    assert (held['split'], held['clips']) == ('test', len(labels))
    assert held['accuracy'] == (answers.argmax(1) == labels).mean()
    assert held['accuracy_of_run'] == (expected.argmax(1) == labels).mean()
    assert held['agreement'] == (answers.argmax(1) == expected.argmax(1)).mean()
    assert held['largest_difference'] == pytest.approx(np.abs(answers - expected).max(), abs=1e-3)
    assert 0 < held['largest_difference'] < 0.1
    assert f'8 bits, on {len(labels)} clips of test: accuracy ' in capsys.readouterr().out


def test_encoders_are_made_of_8_bits_too_and_each_is_judged(
    finished_run, data_dir, tmp_path, monkeypatch
):
    from avsc_jax.export import int8

    answers, judged = int8._answers, []

    def judge(system, clips, sessions):
        judged.append({*sessions})
        probs = answers(system, clips, sessions)
        # right for the run and for its network; wrong for the third, its encoder
        places = np.arange(len(clips)), [clip.label for clip in clips]
        probs[places] = 2.0 if len(judged) < 3 else -1.0
        return probs

    monkeypatch.setattr(int8, '_answers', judge)
    out = tmp_path / 'out'
    told = exported(finished_run('clip_fusion'), data_dir, out)['int8']
    assert [*told['files']] == ['network'] and told['too_inexact'] == ['encoder_clip_rn101']
    assert told['files']['network']['ranges'] == 'found as it runs'  # it has no convolution
    assert not (out / 'encoder_clip_rn101.int8.onnx').exists()
    assert all(names == {'network', 'encoder_clip_rn101'} for names in judged)


def test_a_run_that_loses_too_much_is_a_sentence_and_nothing_is_written(
    finished_run, data_dir, tmp_path, monkeypatch
):
    from avsc_jax.export import int8

    monkeypatch.setattr(int8, 'MOST_LOST', -2.0)
    with pytest.raises(ValueError, match=r'costs more than -200 % of accuracy on the 10 clips of'):
        exported(finished_run('hitachi_image'), data_dir, tmp_path / 'out')
    assert [*tmp_path.iterdir()] == []


def test_a_run_without_a_test_split_is_a_sentence(tmp_path):
    from avsc_jax.export import int8

    RunFolder(tmp_path / 'run').begin({'data': {'train': 'train+test'}})
    with pytest.raises(ValueError, match=r'has no split config\.data\.test; export it without'):
        int8._splits(tmp_path / 'run')
