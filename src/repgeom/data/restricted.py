"""Unpickle CIFAR-10's official batches without running anything that is in them.

A pickle is a program: it may name any function of Python and call it. The batches need three names, all of NumPy:
``_reconstruct``, ``ndarray`` and ``dtype``. Even those are not handed out here. Inert stand-ins take their place, keep
what they are given, and become an array only if what they were given is an array of bytes. Every other name is refused.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


class _DType:
    """Stands in for ``numpy.dtype``: keeps the letter code, ignores the rest of the state."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("ascii", "replace") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands in for ``numpy.ndarray``: keeps shape, dtype, order and raw bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


_ADMITTED: dict[tuple[str, str], Any] = {
    (module, name): stand_in
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    for name, stand_in in (("ndarray", _Array), ("dtype", _DType), ("_reconstruct", _Array))
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is not admitted")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the pickle refers to an object outside itself, which is not admitted")


def load(content: bytes) -> dict[bytes, Any]:
    """The dictionary of a CIFAR-10 batch: byte strings, numbers, lists, and uint8 arrays.

    Raises ``pickle.UnpicklingError`` for anything else: another name, another dtype, a shape that does not fit.
    """
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a pickle that is cut short fails in a dozen ways
        raise pickle.UnpicklingError(f"not a pickle of arrays ({type(error).__name__}: {error})") from error
    if not isinstance(loaded, dict):
        raise pickle.UnpicklingError(f"a dictionary was expected, the pickle holds a {type(loaded).__name__}")
    return {key: _array(value) if isinstance(value, _Array) else value for key, value in loaded.items()}


def _array(stand_in: _Array) -> np.ndarray:
    try:
        _, shape, dtype, fortran, raw = stand_in.state
        plain = isinstance(dtype, _DType) and dtype.code in ("u1", "|u1") and not fortran and isinstance(raw, bytes)
    except (TypeError, ValueError):
        plain = False
    if not plain:
        raise pickle.UnpicklingError("the pickle holds an array that is not of unsigned bytes in C order")
    try:
        return np.frombuffer(raw, np.uint8).reshape(shape)
    except (TypeError, ValueError) as error:
        raise pickle.UnpicklingError(f"the pickle holds an array whose shape does not fit ({error})") from error
