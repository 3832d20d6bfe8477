"""Reads the columns of a pickled pandas frame without pandas, and without running anything of the file's.

A pickle is a program that may call any importable name. Here every name a frame needs is bound to an
inert stand-in from this file, which only keeps what it is given; any other name is refused before it is
looked up. No pandas or numpy object is rebuilt from the stream, so the pandas version that wrote the file
does not matter, and buffers are only ever read by `numpy.frombuffer`, which checks their length.
"""

from __future__ import annotations

import math
import pickle  # noqa: TID251 -- RouterBench is published as a pickle; `_Reader` refuses every name it does not know
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from router_gateway.core.errors import DataError

FILE_BYTES_MAX = 4 * 1024**3
_DTYPES = frozenset("?bhilqBHILQefdO")


class FrameError(ValueError):
    """The stream is not a frame of plain columns."""


class _Inert:
    """Base of the stand-ins. `__setstate__` on each keeps a stream from setting attributes on the class itself."""

    __slots__ = ("args", "state")

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Inert):
    """`DataFrame`: its state holds the manager under `_mgr`, before pandas 1.2 under `_data`."""


class _Manager(_Inert):
    """`BlockManager(blocks, axes)`, or bare with a state that carries them (before pandas 1.3)."""


class _Block(_Inert):
    """`_unpickle_block(values, placement, ndim)`."""


class _Index(_Inert):
    """`_new_Index(class, {"data": …})`, or a range's start, stop and step."""


class _Name(_Inert):
    """A class given as an argument, such as `ndarray` or `Index`: only ever a label here."""


class _Bytes(_Inert):
    """`_codecs.encode(text, "latin1")`: how protocol 2 spells bytes."""

    def value(self) -> bytes:
        return str(self.args[0]).encode("latin1")


class _Dtype(_Inert):
    """`numpy.dtype(spec, …)`, its byte order following in the state."""

    def value(self) -> np.dtype[Any]:
        dtype = np.dtype(str(self.args[0]))
        if dtype.char not in _DTYPES:
            raise FrameError(f"a column of type {dtype.str} is not supported")
        order = self.state[1] if isinstance(self.state, tuple) else "="
        return dtype.newbyteorder(cast(Any, order)) if order in ("<", ">") else dtype


class _Scalar(_Inert):
    """`numpy.scalar(dtype, bytes)`."""

    def value(self) -> Any:
        dtype, raw = self.args
        return np.frombuffer(_raw(raw), dtype=_expect(dtype, _Dtype).value(), count=1)[0].item()


class _Array(_Inert):
    """`numpy._reconstruct(…)`, its state (version, shape, dtype, Fortran order, bytes or list of objects)."""

    def value(self) -> NDArray[Any]:
        _, shape, dtype, fortran, content = self.state
        return _array(content, _expect(dtype, _Dtype).value(), shape, "F" if fortran else "C")


class _Buffer(_Inert):
    """`numpy._frombuffer(bytes, dtype, shape, order, …)`: protocol 5."""

    def value(self) -> NDArray[Any]:
        content, dtype, shape, order, *_ = self.args
        return _array(content, _expect(dtype, _Dtype).value(), shape, "F" if order == "F" else "C")


_STAND_INS: dict[tuple[str, str], type] = {
    **{(module, "DataFrame"): _Frame for module in ("pandas", "pandas.core.frame")},
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas.core.internals", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    **{(module, "Index"): _Name for module in ("pandas", "pandas.core.indexes.base")},
    **{(module, "RangeIndex"): _Name for module in ("pandas", "pandas.core.indexes.range")},
    ("pandas.core.indexes.numeric", "Int64Index"): _Name,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Dtype,
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): _Bytes,
}


class _Reader(pickle._Unpickler):
    """An unpickler that knows the stand-ins and nothing else.

    The one written in Python: its memo is a dict, where the one in C allocates whatever index a stream names.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)  # the spelling of protocols 0 to 2
        if (module, name) not in _STAND_INS:
            raise FrameError(f"refused: the file asks for {module}.{name}, which a frame does not need")
        return _STAND_INS[module, name]


def read_pickled_columns(path: Path) -> dict[str, list[Any]]:
    """Every column of the pickled frame, by name, as Python values (NaN where a number is missing).

    Raises DataError when the file is too large, not a pickled frame, or asks for any other name.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DataError([f"{path}: larger than {FILE_BYTES_MAX} bytes"])
        with path.open("rb") as file:
            return _columns(_Reader(file).load())
    except FrameError as error:
        raise DataError([f"{path}: {error}"]) from None
    except OSError as error:
        raise DataError([f"{path}: {error.strerror or 'cannot be read'}"]) from None
    except DataError:
        raise
    except Exception as error:  # a malformed stream fails in whatever way its bytes happen to suggest
        raise DataError([f"{path}: not a pickled frame of plain columns ({type(error).__name__})"]) from None


def _columns(frame: Any) -> dict[str, list[Any]]:
    state = _expect(frame, _Frame).state
    blocks, (over, down) = _blocks_and_axes(_expect(state.get("_mgr", state.get("_data")), _Manager))
    names, rows = _labels(over), len(_labels(down))
    columns: dict[str, list[Any]] = {}
    for values, placement in blocks:
        at = range(len(names))[placement] if isinstance(placement, slice) else _values(placement).tolist()
        cells = _values(values)
        if cells.shape != (len(at), rows):
            raise FrameError(f"a block has shape {cells.shape}, expected {(len(at), rows)}")
        for position, column in zip(at, cells, strict=True):
            if not isinstance(name := names[position], str) or name in columns:
                raise FrameError("column names must be texts and differ")
            columns[name] = [cell.value() if isinstance(cell, _Scalar) else cell for cell in column.tolist()]
    if len(columns) != len(names):
        raise FrameError("some columns have no values")
    return columns


def _blocks_and_axes(manager: _Manager) -> tuple[list[tuple[Any, Any]], Any]:
    if manager.args:
        blocks, axes = manager.args
        return [_expect(block, _Block).args[:2] for block in blocks], axes
    inner = manager.state[3]["0.14.1"]  # the layout that pandas kept from 0.14.1 to 1.2
    return [(block["values"], block["mgr_locs"]) for block in inner["blocks"]], inner["axes"]


def _labels(index: Any) -> Sequence[Any]:
    _, fields = _expect(index, _Index).args
    if "data" in fields:
        return cast("list[Any]", _values(fields["data"]).tolist())
    return range(*(int(fields[name]) for name in ("start", "stop", "step")))


def _values(array: Any) -> NDArray[Any]:
    if isinstance(array, (_Array, _Buffer)):
        return array.value()
    raise FrameError("a column is not a plain numpy array")


def _array(content: Any, dtype: np.dtype[Any], shape: Any, order: str) -> NDArray[Any]:
    count = math.prod(shape)
    if dtype.char == "O":
        if not isinstance(content, list) or len(content) != count:
            raise FrameError("an array of objects does not have the length it states")
        flat = np.fromiter(content, dtype=object, count=count)  # cells may be lists; assignment would unpack them
    else:
        flat = np.frombuffer(_raw(content), dtype=dtype)
    return flat.reshape(shape, order=cast(Any, order))


def _raw(content: Any) -> bytes | bytearray:
    if isinstance(content, _Bytes):
        return content.value()
    if isinstance(content, (bytes, bytearray)):
        return content
    raise FrameError("an array's content is not bytes")


def _expect(thing: Any, kind: type[Any]) -> Any:
    if not isinstance(thing, kind):
        raise FrameError(f"not a pickled frame: {type(thing).__name__} where a {kind.__name__.strip('_')} belongs")
    return thing
