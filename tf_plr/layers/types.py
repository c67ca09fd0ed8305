# SPDX-License-Identifier: MIT
"""What the constructors of cells and layers take, for type checkers."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

Tensor: TypeAlias = Any  # Of TensorFlow, of Keras, or what they make one of: neither is typed.

ActivationLike: TypeAlias = str | Callable[[Any], Any] | None
InitializerLike: TypeAlias = str | dict[str, Any] | Callable[..., Any]
RegularizerLike: TypeAlias = str | dict[str, Any] | Callable[..., Any] | None
ConstraintLike: TypeAlias = str | dict[str, Any] | Callable[..., Any] | None
BiasLike: TypeAlias = float | InitializerLike

Algorithm: TypeAlias = Literal["auto", "parallel", "serial", "composed"]


class CellOptions(TypedDict, total=False):
    """What every Keras layer takes."""

    name: str | None
    dtype: Any
    trainable: bool
    autocast: bool  # Of no effect: inputs are always cast, states and biases never.


class LayerOptions(CellOptions, total=False):
    """What every Keras layer takes that can stand first in a model."""

    activity_regularizer: RegularizerLike
    input_shape: Any
    batch_input_shape: Any
    batch_shape: Any
