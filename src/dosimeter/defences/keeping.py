"""What a defence or an attack learned, as a file: tensors with the digest of all of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dosimeter.files import replacing, require_file

DIGEST, SECONDS = "sha256", "seconds"


class Learned(NamedTuple):
    """Tensors by name, and the seconds that learning them took."""

    tensors: Mapping[str, Tensor]
    seconds: float


def keep(learned: Learned, file: Path) -> None:
    """Write what was learned to a file, which is whole or absent."""
    facts = {DIGEST: digest_of_tensors(learned.tensors), SECONDS: f"{learned.seconds:.3f}"}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(save(dict(learned.tensors), metadata=facts))


def read_kept(file: Path) -> Learned | None:
    """Return what a file holds; None if it is not there, or its tensors are not those that were written."""
    try:
        require_file(file)
        with safe_open(file, framework="pt") as content:
            learned: dict[str, Tensor] = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            facts = content.metadata() or {}
        seconds = float(facts.get(SECONDS, "nan"))
    except (OSError, SafetensorError, ValueError):
        return None
    return Learned(learned, seconds) if facts.get(DIGEST) == digest_of_tensors(learned) else None


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
