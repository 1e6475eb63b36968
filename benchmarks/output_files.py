"""Whether figures can be written where they shall be: asked before an hour of measuring."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile


def require_folder(folder: Path) -> None:
    """Makes ``folder``; raises :class:`ValueError` where no file can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {error.filename}: {error.strerror}") from error
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"cannot write into {folder}: {error.strerror}") from error


def require_file(file: Path) -> None:
    """Makes the folder of ``file``; raises :class:`ValueError` where it cannot be written."""
    if file.exists() and not file.is_file():
        raise ValueError(f"cannot write {file}: it is no file")
    require_folder(file.parent)
