# SPDX-License-Identifier: MIT
"""Types and algorithms that several modules share."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

# A tensor of TensorFlow or Keras, or a value that they convert to one. Neither library is typed.
Tensor: TypeAlias = Any

ActivationLike: TypeAlias = str | Callable[[Any], Any] | None
InitializerLike: TypeAlias = str | dict[str, Any] | Callable[..., Any]
RegularizerLike: TypeAlias = str | dict[str, Any] | Callable[..., Any] | None
ConstraintLike: TypeAlias = str | dict[str, Any] | Callable[..., Any] | None
BiasLike: TypeAlias = float | InitializerLike

Algorithm: TypeAlias = Literal["auto", "parallel", "serial", "composed"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)


def uses_stock_ops(algorithm: str) -> bool:
    """Whether an algorithm runs in TensorFlow's own ops, which need no native library."""
    return algorithm == "composed"
