"""`Case`, `Record` and `Cohort`: labelled images, read lazily, with their provenance.

A `Cohort` holds light `Record`s. An image is decoded when its `Case` is asked for, so memory stays flat however
many images there are.
"""

import hashlib
import html
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import named, one_line, shown

FloatImage = npt.NDArray[np.float32]
"""An image: float32, shape (C, H, W) with C 1 or 3, values in [0, 1]."""


class Decoded(NamedTuple):
    """Pixels as read from their source."""

    image: FloatImage  # (C, H, W), C is 1 or 3, in [0, 1]
    bits: int  # depth of the source's grid: the image holds multiples of 1 / (2**bits - 1), unless a window made it


class Facts(NamedTuple):
    """What a header says of an image beside its pixels.

    Attributes:
        modality: "ct", "xray", or another of DICOM's codes in small letters, such as "mr"; None if it states none.
        person: digest of the patient's identifier; None if it states none, or was not asked for.
    """

    modality: str | None
    person: str | None


@dataclass(frozen=True)
class Record:
    """What is known of a case before its image is read.

    Attributes:
        case_id: unique in the cohort and free of identifiers (see `pseudonymise`).
        label: index into the cohort's classes.
        findings: of each of the cohort's findings, 1 if it is there, 0 if not, None if that is unknown.
        sha256: digest of the image's source (file bytes, or the phantom's recipe).
        read: decodes the image.
        patient_id: the source's own id; never written to an output. None if unknown.
        source: where the image comes from (a repository, a scanner), None if unknown.
        official_split: "train", "val", "test", or None.
        used: share of the image range that it uses (see `cohorts.contrast`); None if it was not measured.
        modality: what its header states, such as "ct"; None if it states none.
        person: gives the digest of the patient's identifier in its header with a salt; None if it has no header.
        name: the file's path as its cohort names it, or the phantom's name; never written to an output.
        pixels_sha256: digest of its pixels (see `pixel_digest`), "" if they were not read.
        facts: what else its list says, (name, value), such as ("view", "PA"); see `cohorts.subgroups`.
        group: what it must stay together with in a split, where that is more than its patient (see `cohorts.groups`).
    """

    case_id: str
    label: int
    sha256: str
    read: Callable[[], Decoded] = field(repr=False, compare=False)
    patient_id: str | None = None
    source: str | None = None
    official_split: str | None = None
    used: float | None = None
    modality: str | None = None
    person: Callable[[bytes], str | None] | None = field(default=None, repr=False, compare=False)
    name: str = ""
    pixels_sha256: str = ""
    findings: tuple[int | None, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    group: str | None = None

    @property
    def unit(self) -> str | None:
        """What a split keeps together and an interval resamples: its group, or its patient; None if unknown."""
        return self.patient_id if self.group is None else self.group

    def contradicts(self, other: "Record") -> bool:
        """Whether its label differs from another's; of findings, whether one differs that both state."""
        if not self.findings:
            return self.label != other.label
        both = zip(self.findings, other.findings, strict=True)
        return any(mine != theirs for mine, theirs in both if mine is not None and theirs is not None)


@dataclass(frozen=True)
class Case:
    """One labelled image.

    Attributes:
        image: float32 (C, H, W) in [0, 1], C is 1 for a grey image (also one stored as equal RGB) or 3.
        bits: depth of the grid the pixels lie on.
    """

    image: FloatImage
    label: int
    case_id: str
    patient_id: str | None
    bits: int
    record: Record = field(repr=False)

    def __post_init__(self) -> None:
        """Check what a user's own reader gave; floating-point numbers of another width become float32.

        Raises:
            DosimeterError: the image is of another type, shape or range, or `bits` no depth.
        """
        image = as_image(self.image)
        if isinstance(self.bits, bool) or not isinstance(self.bits, int | np.integer) or not 1 <= self.bits <= 16:
            raise DosimeterError(f"bits must be the depth of the pixels, a number from 1 to 16, got {self.bits!r}.")
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "bits", int(self.bits))


class Skipped(NamedTuple):
    """A file left out of a cohort, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Cohort:
    """Labelled images of one modality: lazy, sized, iterable, with provenance.

    Attributes:
        name: as the user asked for it, e.g. "xray-268".
        classes: class names; a label is an index into them.
        positive: the class that is the positive one; of two classes it is the second, of more there need be none.
        findings: names of findings that an image may have or not, each a decision of its own; a label then says whether
            it has any.
        records: the cases, in a fixed order.
        modality: "xray", "ct" or "" if not declared.
        skipped: files that could not be read.
        provenance: facts for the manifest (source, licence note, recipe).
        notes: sentences on what was passed over by rule (hidden files, columns of no meaning); they may name files.

    Example:
        >>> import dosimeter as dm
        >>> cohort = dm.load_cohort("phantom-xray", limit=8)
        >>> cohort[0].image.shape
        (1, 224, 224)
    """

    name: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    modality: str = ""
    skipped: tuple[Skipped, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    positive: str | None = None
    findings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what is declared of classes and findings.

        Raises:
            DosimeterError: `positive` is no class, or of two the first; or a record does not tell of every finding.
        """
        if self.positive is not None and (
            self.positive not in self.classes or (len(self.classes) == 2 and self.positive != self.classes[1])
        ):
            raise DosimeterError(
                f"positive must be one of the classes, of two the second, got {shown(self.positive)} for "
                f"{', '.join(map(named, self.classes))}. Order the classes so."
            )
        for record in self.records:
            if len(record.findings) != len(self.findings):
                raise DosimeterError(
                    f"each image must have a label for each of the {len(self.findings)} findings, "
                    f"{named(record.case_id)} has {len(record.findings)}. Give None where it is unknown."
                )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Case:
        record = self.records[index]
        decoded = record.read()
        if not isinstance(decoded, tuple) or len(decoded) != 2:
            raise DosimeterError(
                f"read must return Decoded(image, bits), got {type(decoded).__name__}. Give the pixels and their depth."
            )
        image, bits = decoded
        return Case(image, record.label, record.case_id, record.patient_id, bits, record)

    def __iter__(self) -> Iterator[Case]:
        return (self[index] for index in range(len(self)))

    def of_finding(self, name: str) -> "Cohort":
        """Return the cases of which it is known whether they have a finding, as a cohort of two classes.

        Raises:
            DosimeterError: there is no such finding.
        """
        if name not in self.findings:
            raise DosimeterError(f"there is no finding {shown(name)}. {did_you_mean(name, self.findings)}")
        place = self.findings.index(name)
        records = tuple(
            replace(record, label=label, findings=())
            for record in self.records
            if (label := record.findings[place]) is not None
        )
        return replace(self, classes=of_finding(name), findings=(), records=records)

    def subset(self, indices: Sequence[int]) -> "Cohort":
        """Return the cohort with only the records at `indices`, in that order."""
        return replace(self, records=tuple(self.records[index] for index in indices))

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels of all cases, shape (n,), without reading an image."""
        return np.array([record.label for record in self.records], dtype=np.int64)

    @property
    def positive_place(self) -> int | None:
        """Index of the positive class, None if none is declared; of two classes 1."""
        if len(self.classes) == 2:
            return 1
        return None if self.positive is None else self.classes.index(self.positive)

    @property
    def known_findings(self) -> npt.NDArray[np.float64]:
        """Of all cases, shape (n, findings), 1 where the finding is there, 0 where not, NaN where that is unknown."""
        rows = [[np.nan if each is None else each for each in record.findings] for record in self.records]
        return np.array(rows, dtype=np.float64).reshape(len(self.records), len(self.findings))

    @property
    def finding_counts(self) -> dict[str, dict[str, int]]:
        """Of each finding, the number of cases that have it, that do not, and of which that is unknown."""
        tallies = [Counter(record.findings[place] for record in self.records) for place in range(len(self.findings))]
        return {
            name: {"present": tally[1], "absent": tally[0], "unknown": tally[None]}
            for name, tally in zip(self.findings, tallies, strict=True)
        }

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases of each class."""
        tally = Counter(record.label for record in self.records)
        return {name: tally[index] for index, name in enumerate(self.classes)}

    @property
    def left_out(self) -> list[str]:
        """Sentences that count and name what `skipped` holds, one for each reason, however many files there are."""
        return _left_out(self.skipped)

    @property
    def sha256(self) -> str:
        """Digest of the images, their labels and their order."""
        digest = hashlib.sha256("|".join(self.classes).encode())
        for record in self.records:
            found = f":{record.findings}" if self.findings else ""
            digest.update(f"{record.case_id}:{record.label}{found}:{record.sha256}\n".encode())
        return digest.hexdigest()

    def _repr_html_(self) -> str:
        counts = "".join(f"<tr><td>{html.escape(name)}</td><td>{n}</td></tr>" for name, n in self.counts.items())
        title = f"{html.escape(self.name)}: {len(self)} images, {len(self.skipped)} left out"
        return f"<table><caption>{title}</caption><tr><th>class</th><th>n</th></tr>{counts}</table>"


def of_finding(name: str) -> tuple[str, str]:
    """Return the names of the two classes that a finding is a decision between."""
    return f"no {name}", name


def as_image(image: object) -> FloatImage:
    """Return `image` as float32 (C, H, W) in [0, 1], or raise DosimeterError, one sentence, if it is none."""
    if not isinstance(image, np.ndarray):
        raise DosimeterError(f"image must be a NumPy array, got {type(image).__name__}. Give numpy.asarray(...) of it.")
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        remedy = "It is (1, H, W) or (3, H, W)."
        if image.ndim == 2:
            remedy = "A grey one is image[None]."
        elif image.ndim == 3 and image.shape[2] in (1, 3) and 0 not in image.shape:
            remedy = "If its channels come last, give image.transpose(2, 0, 1)."
        raise DosimeterError(f"image must have the shape (C, H, W), C 1 or 3, got {image.shape}. {remedy}")
    if not np.issubdtype(image.dtype, np.floating):
        top = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
        raise DosimeterError(
            f"image must be float32 from 0, black, to 1, white, got {image.dtype}. Divide it by the value of white, "
            f"such as {top}, and give (image / {top}).astype('float32')."
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # written so that what is not a number is refused
        raise DosimeterError(
            f"image must have values from 0, black, to 1, white, got {low:g} to {high:g}. Divide by the value of "
            "white, or map a window to 0 and 1."
        )
    return image.astype(np.float32, copy=False)


def pseudonymise(index: int, sha256: str) -> str:
    """Return a case id that names no file and no person: the case's place in its cohort and its digest's start."""
    return f"{index:05d}-{sha256[:8]}"


def pixel_digest(image: FloatImage) -> str:
    """Return a digest of an image's shape and pixels: equal for copies in files of different formats or depths."""
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


_MOST_NAMES = 5
_MOST_REASONS = 10


def _left_out(skipped: Sequence[Skipped]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped:
        by_reason.setdefault(reason, []).append(name)
    sentences = []
    for reason, names in list(by_reason.items())[:_MOST_REASONS]:
        many = f"{len(names)} files, the first are " if len(names) > _MOST_NAMES else ""
        verb = "were" if len(names) > 1 else "was"
        listed = ", ".join(map(named, names[:_MOST_NAMES]))
        sentences.append(f"{many}{listed}{',' if many else ''} {verb} left out: {one_line(reason)}")
    rest = list(by_reason.values())[_MOST_REASONS:]
    if rest:
        sentences.append(f"{sum(map(len, rest))} more files were left out, for {len(rest)} other reasons.")
    return sentences
