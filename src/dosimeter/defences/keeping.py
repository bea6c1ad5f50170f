"""What a defence learned, as a file: tensors with the digest of all of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dosimeter.files import replacing

DIGEST = "sha256"


def keep(learned: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors to a file, which is whole or absent."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(save(dict(learned), metadata={DIGEST: digest_of_tensors(learned)}))


def read_kept(file: Path) -> dict[str, Tensor] | None:
    """Return the tensors in a file; None if it is not there, or they are not those that were written."""
    try:
        with safe_open(file, framework="pt") as content:
            learned: dict[str, Tensor] = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            digest = (content.metadata() or {}).get(DIGEST)
    except (OSError, SafetensorError):
        return None
    return learned if digest == digest_of_tensors(learned) else None


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
