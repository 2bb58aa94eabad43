"""The files of a data set, wherever they lie: in folders, or still inside their zip archives."""

import collections
import io
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

MAX_MEMBER_BYTES = 1 << 30  # no clip, second or list is near it; a hostile archive may claim more


class Member(io.BytesIO):
    """The bytes of a zip member; `name` tells where they came from."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


class MediaFiles:
    """Finds files by the last two parts of their path, such as 'audio/tram-lyon-1-2.wav'.

    Extracted files win over zip members of the same name. Archives stay packed: each is opened
    once, and threads may read from it together.
    """

    notes: Mapping[str, list[str]] = {}  # nothing is done to them; see FolderFiles

    def __init__(self, root: Path):
        self.root = Path(root)
        self._places: dict[str, Path | tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        paths = sorted(path for path in self.root.rglob('*') if path.is_file())
        for path in paths:
            if path.suffix.lower() != '.zip':
                self._places.setdefault('/'.join(path.parts[-2:]), path)
        for path in paths:
            if path.suffix.lower() == '.zip':
                self._add_archive(path)

    def _add_archive(self, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f'{path} is no whole zip archive ({error}); fetch it again') from error
        for info in archive.infolist():
            if not info.is_dir():
                key = '/'.join(PurePosixPath(info.filename).parts[-2:])
                self._places.setdefault(key, (archive, info))

    def __reduce__(self) -> tuple:
        return MediaFiles, (self.root,)  # Beam's workers open the archives anew

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def source(self, name: str) -> Path | Member:
        """What avsc_jax.data.media reads: a path, or a zip member's bytes."""
        if (place := self._places.get(name)) is None:
            raise FileNotFoundError(
                f'{name} is missing: neither under {self.root} nor in a zip there'
            )
        if isinstance(place, Path):
            return place
        archive, info = place
        where = f'{info.filename} in {archive.filename}'
        if info.file_size > MAX_MEMBER_BYTES:
            raise ValueError(f'{where} claims {info.file_size} bytes; no clip is that large')
        try:
            return Member(archive.read(info), where)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
            raise ValueError(f'{where} is damaged ({error}); fetch the archive again') from error

    def stamp(self, name: str) -> list[int]:
        """Numbers that change with the file; none where it is missing."""
        place = self._places.get(name)
        if isinstance(place, Path):
            return [place.stat().st_size, place.stat().st_mtime_ns]
        return [place[1].file_size, place[1].CRC] if place else []

    def read_text(self, filename: str) -> str | None:
        """The text of the first file so called in any folder; None if there is none."""
        found = sorted(name for name in self._places if name.rpartition('/')[2] == filename)
        if not found:
            return None
        source = self.source(found[0])
        data = source.read_bytes() if isinstance(source, Path) else source.read()
        return data.decode('utf-8-sig')


class FolderFiles:
    """Files by their paths below a folder; takes note of what is done to them.

    Attributes:
      notes: what was done -> the clips that it was done to.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.notes: dict[str, list[str]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return not name or (self.root / name).is_file()

    def stamp(self, name: str) -> list[int]:
        """See MediaFiles.stamp."""
        if not name or name not in self:
            return []
        facts = (self.root / name).stat()
        return [facts.st_size, facts.st_mtime_ns]

    def note(self, clip_id: str, done: str) -> None:
        """Remembers that this was done to the clip."""
        with self._lock:
            self.notes[done].append(clip_id)
