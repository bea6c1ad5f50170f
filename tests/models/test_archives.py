"""Archives of weights that would take more memory than they have bytes."""

import io
import zipfile
from pathlib import Path

import pytest
import torch

from dosimeter.errors import DosimeterError
from dosimeter.models.archives import require_plain
from dosimeter.models.weights import load_weights


def test_what_torch_saves_passes(tmp_path: Path) -> None:
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save({"a": torch.zeros(10_000)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        require_plain(tmp_path / name)


def test_a_compressed_archive_is_refused_before_it_is_read(tmp_path: Path) -> None:
    plain = io.BytesIO()
    torch.save({"features.0.weight": torch.zeros(1_000_000)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for item in source.namelist():
            archive.writestr(item, source.read(item))
    with pytest.raises(DosimeterError, match=r"got \d+ in \d+: it is compressed. Save its tensors with torch.save"):
        load_weights("vgg16", file=tmp_path / "w.pt")
