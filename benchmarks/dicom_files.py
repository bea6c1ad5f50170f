"""Reads every DICOM file of a folder with dosimeter and with DCMTK, and writes what became of each.

    python benchmarks/dicom_files.py FOLDER [--out TABLE.csv]

A file is "right" if it is read and no pixel differs from DCMTK's by more than `TOLERANCE` (padding apart, which DCMTK
shows like any number), "wrong" if it is read and one does, "refused truly" if it is not read and what the sentence says
is so, by DCMTK's dump of its header or because DCMTK cannot show it either, and "refused wrongly" otherwise. "not
judged" is what is read and DCMTK cannot show.

Needs dcmdump, dcm2pnm, dcmj2pnm, dcml2pnm (DCMTK) and gdcmconv (GDCM, for JPEG 2000). Files suited to it are those of
the public repositories pydicom and pydicom-data; none is part of this project.
"""

import argparse
import csv
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dosimeter.cohorts.images import ImageError, decode_with_padding, read_bytes

TOLERANCE = 0.01
VERDICTS = ("right", "refused truly", "refused wrongly", "wrong", "not judged")


class Verdict(NamedTuple):
    file: str
    verdict: str
    difference: str
    detail: str


class Dump(NamedTuple):
    """What dcmdump says of a header, and whether it reached the file's end."""

    text: str
    whole: bool

    def value(self, tag: str) -> str:
        found = re.search(rf"^\({tag}\) \w\w (?:=?\[([^\]]*)\]|=?(\S+))", self.text, re.M)
        return "" if found is None else (found[1] or found[2] or "").strip()

    def has(self, tag: str) -> bool:
        return re.search(rf"^\({tag}\)", self.text, re.M) is not None


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def shown(path: Path, scratch: Path) -> np.ndarray | None:
    """What DCMTK shows of the first frame, by the file's first VOI table or window, in [0, 1]."""
    plain = scratch / "plain.dcm"
    plain.unlink(missing_ok=True)
    run("gdcmconv", "--raw", str(path), str(plain))
    sources = [path, *([plain] if plain.is_file() else [])]
    for source in sources:
        for tool in ("dcm2pnm", "dcmj2pnm", "dcml2pnm"):
            for voi in (["+Wl", "1"], ["+Wi", "1"], []):
                out = scratch / "shown.pgm"
                out.unlink(missing_ok=True)
                run(tool, "-O", *voi, "+opn", "16", str(source), str(out))
                if out.is_file() and out.stat().st_size:
                    image = Image.open(out)
                    return None if image.mode == "RGB" else np.asarray(image, dtype=np.float64) / 65535
    return None


TRUTHS: dict[str, Callable[[Dump], bool]] = {
    "colour": lambda dump: not dump.value("0028,0004").startswith("MONOCHROME") or dump.value("0028,0002") != "1",
    r"holds \d+ frames": lambda dump: dump.value("0028,0008") not in ("", "0", "1"),
    "no pixel data": lambda dump: not dump.has("7fe0,0010"),
    "floating-point": lambda dump: dump.has("7fe0,0008") or dump.has("7fe0,0009"),
    "bits a pixel": lambda dump: dump.value("0028,0100") not in ("8", "16"),
    "lacks BitsAllocated": lambda dump: not dump.has("0028,0100"),
    "lacks Photometric": lambda dump: not dump.has("0028,0004"),
    "lacks SamplesPerPixel": lambda dump: not dump.has("0028,0002"),
    "it is truncated": lambda dump: not dump.whole,
    "cannot be decoded here; pip install|pixels cannot be decoded by": lambda dump: True,  # by the plug-ins of pydicom
}


def judge(path: Path, scratch: Path) -> tuple[str, str, str]:
    try:
        decoded, padding = decode_with_padding(read_bytes(path), name=str(path))
        image, reason = decoded.image, ""
    except ImageError as error:
        image, padding, reason = None, None, error.reason
    expected = shown(path, scratch)
    if image is None:
        done = run("dcmdump", "+L", str(path))
        dump = Dump(done.stdout.decode("latin-1"), whole=done.returncode == 0 and b"E:" not in done.stderr)
        true = next((check(dump) for pattern, check in TRUTHS.items() if re.search(pattern, reason)), expected is None)
        return ("refused truly" if true else "refused wrongly"), "", reason
    if expected is None:
        return "not judged", "", "DCMTK does not show it"
    if expected.shape != image.shape[1:]:
        return "wrong", "", f"{image.shape[1:]} pixels instead of {expected.shape}"
    apart = np.abs(image[0] - expected)
    difference = apart.max() if padding is None else apart[~padding].max(initial=0)
    return ("right" if difference <= TOLERANCE else "wrong"), f"{difference:.5f}", ""


def files(folder: Path) -> list[Path]:
    """Those that are called .dcm, and those that begin as DICOM files do."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size)
    return [path for path in found if path.suffix == ".dcm" or path.open("rb").read(132)[128:] == b"DICM"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="write the table here too, as CSV")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            Verdict(str(path.relative_to(options.folder)), *judge(path, Path(scratch)))
            for path in files(options.folder)
        ]
    for row in rows:
        print(f"{row.verdict:<16} {row.difference:<8} {row.file}  {row.detail}")
    tally = Counter(row.verdict for row in rows)
    print(", ".join(f"{tally[verdict]} {verdict}" for verdict in VERDICTS), f"of {len(rows)}")
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Verdict._fields)
            writer.writerows(rows)


if __name__ == "__main__":
    main()
