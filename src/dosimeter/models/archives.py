"""Archives of tensors: what they would take in memory is known before they are read."""

import zipfile
from pathlib import Path

from dosimeter.errors import DosimeterError


def require_plain(path: Path, remedy: str = "Save its tensors with torch.save, which does not compress.") -> None:
    """Raise DosimeterError if a .pt or .pth archive would take more memory than the file has bytes.

    torch.save never compresses, so that all it writes takes less; a compressed archive of a few megabytes may hold
    gigabytes. A file that is no archive passes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # of an older form, or damaged: torch says so
    if n_bytes > (allowed := path.stat().st_size):
        raise DosimeterError(
            f"weights file {path} must hold no more bytes than it has, got {n_bytes} in {allowed}: it is compressed. "
            f"{remedy}"
        )
