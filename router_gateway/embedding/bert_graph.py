"""A BERT encoder's weights as a graph for ONNX Runtime: built in under a second, and torch is not needed.

Devlin et al., 2019, "BERT: pre-training of deep bidirectional transformers" (arXiv 1810.04805). Mean pooling as in
Reimers & Gurevych, 2019, "Sentence-BERT" (arXiv 1908.10084).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway.core.errors import ConfigError
from router_gateway.core.types import Floats

_RUNTIME = "com.microsoft"  # ONNX Runtime's own operators: attention and its neighbours in one pass each
_OPSETS = (("", 17), (_RUNTIME, 1))
_IR_VERSION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BertFolder:
    """What a folder in the layout of sentence-transformers says of its encoder. `window` in tokens."""

    folder: Path
    layers: int
    heads: int
    width: int
    epsilon: float
    window: int

    @classmethod
    def read(cls, folder: Path) -> BertFolder:
        """Raises ConfigError unless it is BERT with exact GELU, absolute positions and mean pooling."""
        told = _json(folder / "config.json")
        pooling = _json(folder / "1_Pooling" / "config.json")
        modes = {mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on is True}
        problems = [
            f"{key} is {told.get(key)!r}, not {wanted!r}"
            for key, wanted in (("model_type", "bert"), ("hidden_act", "gelu"))
            if told.get(key) != wanted
        ]
        if told.get("position_embedding_type", "absolute") != "absolute":
            problems.append("positions are not absolute")
        if modes != {"pooling_mode_mean_tokens"} and pooling.get("pooling_mode") != "mean":
            problems.append("pooling is not the mean")
        if problems:
            raise ConfigError(
                [f"embedder.model: {folder.name!r} cannot be run by kind onnx: {problem}" for problem in problems],
                hint="use `embedder.kind: sentence`, which runs any sentence-transformers model",
            )
        positions = int(told["max_position_embeddings"])
        window = _json(folder / "sentence_bert_config.json").get("max_seq_length") or positions
        return cls(
            folder=folder,
            layers=int(told["num_hidden_layers"]),
            heads=int(told["num_attention_heads"]),
            width=int(told["hidden_size"]),
            epsilon=float(told["layer_norm_eps"]),
            window=min(int(window), positions),
        )

    def weights(self) -> dict[str, Floats]:
        """Tensors by name, without the prefix that some exports add."""
        from safetensors.numpy import load_file

        tensors = load_file(self.folder / "model.safetensors")
        return {name.removeprefix("bert."): np.asarray(value, dtype=np.float32) for name, value in tensors.items()}


def graph(encoder: BertFolder) -> bytes:
    """The model, serialised: `tokens` int32 (1, n) of one text in, `vector` float32 (1, d) of unit length out."""
    from onnx import TensorProto, helper, numpy_helper

    drawn = _Drawing(encoder, encoder.weights())
    hidden = drawn.embedded("tokens")
    for layer in range(encoder.layers):
        hidden = drawn.layer(hidden, f"encoder.layer.{layer}")
    drawn.node("ReduceMean", [hidden], "mean", axes=[1], keepdims=0)
    drawn.node("LpNormalization", ["mean"], "vector", axis=1, p=2)
    nodes = [
        helper.make_node(kind, inputs, outputs, domain=domain, **settings)
        for kind, inputs, outputs, domain, settings in drawn.nodes
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "bert",
            [helper.make_tensor_value_info("tokens", TensorProto.INT32, [1, "n"])],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, encoder.width])],
            [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in drawn.constants.items()],
        ),
        opset_imports=[helper.make_opsetid(*opset) for opset in _OPSETS],
        ir_version=_IR_VERSION,
    )
    return bytes(model.SerializeToString())


def quantised(model: bytes) -> bytes:
    """The same graph with its matrix products in 8 bits: weights once, per column; activations anew for every text."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    told = logging.getLogger()
    before = told.level
    told.setLevel(logging.ERROR)  # it advises a step for graphs that other tools exported
    try:
        with tempfile.TemporaryDirectory() as folder:  # its interface is files
            small = Path(folder) / "int8.onnx"
            quantize_dynamic(
                onnx.load_from_string(model),
                small,
                op_types_to_quantize=["MatMul", "Attention"],
                per_channel=True,
                reduce_range=True,  # weights in 7 bits: processors without VNNI would saturate, and differ, with 8
                weight_type=QuantType.QInt8,
                extra_options={"DefaultTensorType": 1},
            )
            return small.read_bytes()
    finally:
        told.setLevel(before)


class _Drawing:
    """Nodes and constants as they are added."""

    def __init__(self, encoder: BertFolder, weights: Mapping[str, Floats]) -> None:
        self._encoder = encoder
        self._weights = weights
        self.nodes: list[tuple[str, list[str], list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, Floats] = {}

    def node(self, kind: str, inputs: list[str], *outputs: str, domain: str = "", **settings: Any) -> str:
        self.nodes.append((kind, inputs, list(outputs), domain, settings))
        return outputs[0]

    def embedded(self, tokens: str) -> str:
        """Word, position and segment; one text has one segment, whose vector is added to every position."""
        told = self._weights
        position = told["embeddings.position_embeddings.weight"] + told["embeddings.token_type_embeddings.weight"][0]
        inputs = [
            tokens,
            "",
            self._constant("word", told["embeddings.word_embeddings.weight"]),
            self._constant("position", position),
            "",
            *self._norm("embeddings.LayerNorm"),
        ]
        epsilon = self._encoder.epsilon
        return self.node("EmbedLayerNormalization", inputs, "embedded", "unmasked", domain=_RUNTIME, epsilon=epsilon)

    def layer(self, hidden: str, name: str) -> str:
        """Attention and feed-forward, each with its residual and norm."""
        one = f"{name}.attention"
        parts = [f"{one}.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        inputs = [hidden, self._constant(f"{one}.weight", weight), self._constant(f"{one}.bias", bias)]
        self.node("Attention", inputs, f"{one}.read", domain=_RUNTIME, num_heads=self._encoder.heads)
        hidden = self._residual(self._product(f"{one}.read", f"{one}.output.dense"), hidden, f"{one}.output")
        wide = self._product(hidden, f"{name}.intermediate.dense")
        bias_name = self._constant(f"{name}.intermediate.bias", self._weights[f"{name}.intermediate.dense.bias"])
        wide = self.node("BiasGelu", [wide, bias_name], f"{name}.gelu", domain=_RUNTIME)
        return self._residual(self._product(wide, f"{name}.output.dense"), hidden, f"{name}.output")

    def _product(self, hidden: str, dense: str) -> str:
        weight = self._constant(f"{dense}.weight", self._weights[f"{dense}.weight"].T)
        return self.node("MatMul", [hidden, weight], f"{dense}.product")

    def _residual(self, product: str, hidden: str, name: str) -> str:
        bias = self._constant(f"{name}.bias", self._weights[f"{name}.dense.bias"])
        inputs = [product, hidden, *self._norm(f"{name}.LayerNorm"), bias]
        epsilon = self._encoder.epsilon
        return self.node("SkipLayerNormalization", inputs, f"{name}.normed", domain=_RUNTIME, epsilon=epsilon)

    def _norm(self, name: str) -> list[str]:
        return [self._constant(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in ("weight", "bias")]

    def _constant(self, name: str, value: Floats) -> str:
        self.constants[name] = value
        return name


def _json(path: Path) -> dict[str, Any]:
    """The object in a file, or an empty one where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError([f"embedder.model: cannot read {path.name}: {type(error).__name__}"]) from error
    return value if isinstance(value, dict) else {}
