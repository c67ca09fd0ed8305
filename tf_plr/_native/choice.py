# SPDX-License-Identifier: MIT
"""The library that runs the ops in this process, chosen once."""

import functools
import re
import warnings
from typing import Any, NoReturn

from tf_plr._native import library
from tf_plr._native.portable import Portable


class Native:
    """The native ops, which were built for the TensorFlow that is running."""

    needs_ranks = False  # Whether tensors must have known ranks.

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def call(self, op: str, inputs: dict[str, Any], attributes: dict[str, Any]) -> Any:
        library.warn_of_unused_gpus()
        return getattr(self._ops, _function_of(op))(**inputs, **attributes)


class Missing:
    """No library can be used; a call raises the error that says why."""

    needs_ranks = False

    def __init__(self, error: ImportError) -> None:
        self.error = error

    def call(self, op: str, inputs: dict[str, Any], attributes: dict[str, Any]) -> NoReturn:
        raise self.error.with_traceback(None)


@functools.cache
def choice() -> Native | Portable | Missing:
    """Chooses the library that runs the ops, once.

    Returns:
        `Native` if the ops were built for this TensorFlow. Otherwise `Portable`, with a
        `RuntimeWarning`. `Missing`, which holds the error, if neither can be used.
    """
    try:
        return Native(library.load_ops())
    except library.WrongTensorFlowError as error:
        portable = Portable()
        if problem := portable.why_unusable():
            reason = f"{error.reason}. The portable library cannot take its place: {problem}"
            return Missing(library.LibraryError(reason))
        warnings.warn(
            f"{error.reason}. {library.REBUILD} Meanwhile tf_plr's ops run through XLA's "
            "interface, which is slower.",
            RuntimeWarning,
            stacklevel=2,
        )
        return portable
    except ImportError as error:
        return Missing(error)


def call(op: str, inputs: dict[str, Any], **attributes: Any) -> Any:
    """Calls an op of tf_plr.

    Args:
        op: Name of the op without its prefix, "LinearRecurrence" for `TfPlr>LinearRecurrence`.
        inputs: Maps the names of the inputs to tensors, in the order of the op's signature. An
            optional input is a list of at most one tensor.
        **attributes: The attributes that do not follow from the inputs.

    Returns:
        The output, or a named tuple of the outputs.

    Raises:
        ImportError: no library can be used.
    """
    return choice().call(op, inputs, attributes)


@functools.cache
def _function_of(op: str) -> str:
    return "tf_plr" + re.sub("([A-Z])", r"_\1", op).lower()
