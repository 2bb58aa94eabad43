"""Takes each recording of one's own clips once, whatever paths lead to it."""

from collections.abc import Sequence
from pathlib import Path

from avsc_jax.data import folder_walk
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.runtime.files import some


def once(items: Sequence[Clip], root: Path, place: Path) -> tuple[list[Clip], list[str]]:
    """Leaves out clips whose files are links to, or copies of, the files of another clip.

    Args:
      root: folder of the clips' files.
      place: folder or table that lists the clips, for errors.

    Returns:
      The clips that are kept, in order, and the ids of those left out.

    Raises:
      ValueError: clips of one recording have different labels or splits.
    """
    files = {root / name for item in items for name in (item.audio, item.video) if name}
    others = folder_walk.copies(sorted(files))

    def recording(item: Clip) -> tuple[Path, ...]:
        return tuple(others.get(root / name, root / name) for name in (item.audio, item.video))

    def is_other(item: Clip) -> bool:
        return recording(item) != (root / item.audio, root / item.video)

    first: dict[tuple[Path, ...], Clip] = {}
    twice, wrong = [], []
    for item in sorted(items, key=is_other):
        one = first.setdefault(recording(item), item)
        if one is item:
            continue
        twice.append(item.clip_id)
        if (one.scene, one.split) != (item.scene, item.split):
            wrong.append(f'{_described(one)} and {_described(item)}')
    if wrong:
        raise ValueError(
            f'{len(wrong)} recordings of {place} have two labels or splits: {some(wrong)}; they '
            'are one file, or copies: keep the right one of each'
        )
    return [item for item in items if first[recording(item)] is item], twice


def _described(item: Clip) -> str:
    return f'{item.clip_id} ({", ".join(filter(None, (*item.labels, item.split)))})'
