"""Compiles kernels; the only module that imports numba, and only when a kernel is first called.

A kernel is a plain function over integers and arrays, written once. ``kernel(function)`` calls its compiled form and
keeps the function itself as ``.py_func``, which runs without numba: on lists where a kernel computes with indices
alone, else on numpy arrays. A kernel does not call another kernel, because inside ``.py_func`` that would compile.

Machine code is kept on disk, in ``__pycache__`` beside the kernel's source or, where that cannot be written, in the
user's cache folder (``NUMBA_CACHE_DIR`` moves it). If neither can be written, every process compiles anew. It is made
again when the file of the kernel changes, not when a constant does that the kernel imports: touch both.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Lock
from typing import Generic, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
_COMPILING = Lock()


class Kernel(Generic[P, R]):
    """A function that is compiled when first called.

    ``py_func``: the function as written. The first call imports numba (about 0.3 s) and compiles or loads one variant
    per combination of argument types; raises whatever numba raises if the function cannot be compiled.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.py_func = function
        self._compiled: Callable[P, R] | None = None

    @property
    def is_compiled(self) -> bool:
        """It has been called, so numba is loaded."""
        return self._compiled is not None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._compiled is None:
            return self._first(*args, **kwargs)
        return self._compiled(*args, **kwargs)

    def _first(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The collector rests meanwhile: walking the heap while numba loads takes a fifth of the time, more if full."""
        with _COMPILING:
            was_enabled = gc.isenabled()
            gc.disable()
            try:
                compiled = self._compiled or self._compile()
                answer = compiled(*args, **kwargs)
                self._compiled = compiled
                return answer
            finally:
                if was_enabled:
                    gc.enable()

    def _compile(self) -> Callable[P, R]:
        from numba import njit

        try:
            compiled = njit(self.py_func, cache=True)
        except RuntimeError:  # no folder can be written; compiling again each time is what remains
            compiled = njit(self.py_func)
        return cast("Callable[P, R]", compiled)  # numba's own type forgets the arguments


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Decorate a function over integers, arrays and tuples of arrays: compiled at its first call, see the chapter."""
    return Kernel(function)
