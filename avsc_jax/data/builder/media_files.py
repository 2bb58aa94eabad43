"""Finds the files of a data set in folders or inside zip archives."""

import collections
import io
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from avsc_jax.data import folder_walk
from avsc_jax.runtime import archives, files

MAX_MEMBER_BYTES = 1 << 30  # no file of a data set is near it; a hostile archive may claim more


class Member(io.BytesIO):
    """The bytes of a zip member; `name` is the member and its archive, for errors."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


class Notes:
    """Collects notes on changes that a build made to clips.

    Attributes:
      notes: change that was made, such as resampling -> ids of the clips that it was made to.
    """

    def __init__(self):
        self.notes: dict[str, list[str]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def note(self, clip_id: str, done: str) -> None:
        """Notes a change that was made to a clip."""
        with self._lock:
            self.notes[done].append(clip_id)


class MediaFiles(Notes):
    """Finds files by the last two parts of their path, such as 'audio/tram-lyon-1-2.wav'.

    Extracted files win over zip members of the same name. Archives stay packed: each is opened
    once, and threads may read from it together.
    """

    def __init__(self, root: Path):
        super().__init__()
        self.root = Path(root)
        self._places: dict[str, Path | tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        paths = folder_walk.walk(self.root).files if self.root.is_dir() else []
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
            raise ValueError(
                f'{path} is not a whole zip archive ({error}); fetch it again'
            ) from error
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
        """Returns a file as avsc_jax.data.media reads it: its path, or a zip member's bytes."""
        if (place := self._places.get(name)) is None:
            raise FileNotFoundError(
                f'{name} is missing: it is neither under {self.root} nor in a zip file there'
            )
        if isinstance(place, Path):
            return place
        archive, info = place
        where = f'{info.filename} in {archive.filename}'
        if info.file_size > MAX_MEMBER_BYTES:
            raise ValueError(f'{where} claims {info.file_size} bytes; no clip is that large')
        try:
            return Member(archives.content(archive, info), where)
        except ValueError as error:
            raise ValueError(f'{where} is not read: {error}') from error
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
            raise ValueError(f'{where} is damaged ({error}); fetch the archive again') from error

    def stamp(self, name: str, *, inode: bool = False) -> list[int]:
        """Returns numbers that change with the file's content; none if it is missing.

        Args:
          inode: whether a file that was replaced by another of its size and time is another one.
        """
        place = self._places.get(name)
        if isinstance(place, Path):
            return files.stamp(place, inode=inode)
        return [place[1].file_size, place[1].CRC] if place else []

    def read_text(self, filename: str) -> str | None:
        """Returns the text of the first file of this name in any folder; None if there is none."""
        names = sorted(name for name in self._places if name.rpartition('/')[2] == filename)
        if not names:
            return None
        source = self.source(names[0])
        data = source.read_bytes() if isinstance(source, Path) else source.read()
        return data.decode('utf-8-sig')


class FolderFiles(Notes):
    """Finds files by their paths below a folder."""

    def __init__(self, root: Path):
        super().__init__()
        self.root = Path(root)

    def __contains__(self, name: str) -> bool:
        return not name or (self.root / name).is_file()

    def stamp(self, name: str) -> list[int]:
        """Returns numbers that change with the file's content; none if it is missing."""
        if not name or name not in self:
            return []
        return files.stamp(self.root / name, inode=False)
