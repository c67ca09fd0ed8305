# SPDX-License-Identifier: MIT
"""Types and checks of the constructor arguments of cells and layers; errors name the argument."""

import difflib
import math
import numbers
import operator
import warnings
from collections.abc import Collection
from typing import Any, TypedDict

import keras

from tf_plr._types import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from tf_plr.initializers import TimeScales


class KerasOptions(TypedDict, total=False):
    """What every Keras layer takes."""

    name: str | None
    dtype: Any
    trainable: bool
    autocast: bool  # Has no effect: inputs are always cast; states and biases never are.


class LayerOptions(KerasOptions, total=False):
    """The keyword arguments of every Keras layer that can be the first one in a model."""

    activity_regularizer: RegularizerLike
    input_shape: Any


class CellArguments(KerasOptions, total=False):
    """The arguments that all cells share; see `LinearRecurrentCell`."""

    recurrent_activation: ActivationLike
    use_bias: bool
    kernel_initializer: InitializerLike
    bias_initializer: InitializerLike
    kernel_regularizer: RegularizerLike
    bias_regularizer: RegularizerLike
    kernel_constraint: ConstraintLike
    bias_constraint: ConstraintLike
    dropout: float
    layer_normalization: bool
    seed: int | None


# Such a gate remembers 10^13 steps. A larger value is probably meant as a number of steps.
LARGEST_BIAS = 30

# Arguments that Keras' recurrent layers take and these layers do not, and what to do instead.
_NO_RECURRENT_KERNEL = "leave it out: gates do not see states here, so there is no recurrent_kernel"
INSTEAD = {
    "input_dim": "leave it out: the layer sees its inputs",
    "batch_shape": "leave it out, and give the model keras.Input(batch_shape=...)",
    "unroll": "leave it out: there is no loop to unroll",
    "unit_forget_bias": "pass forget_bias, a number or an initializer (True is forget_bias=1.0)",
    "use_cudnn": "leave it out: the layer has kernels of its own",
    "implementation": "leave it out: there is only one",
    "reset_after": "leave it out: there is no reset gate",
    "max_steps": "pass forget_bias=tf_plr.initializers.TimeScales(max_steps)",
    "time_major": "leave it out, and transpose sequences to [batch, time, features]",
    "recurrent_dropout": "pass dropout, of the inputs; only GILRLSTM has dropout of states",
    "recurrent_initializer": _NO_RECURRENT_KERNEL,
    "recurrent_regularizer": _NO_RECURRENT_KERNEL,
    "recurrent_constraint": _NO_RECURRENT_KERNEL,
}


def check_names(
    cls: type, given: Collection[str], known: Collection[str], similar: Collection[str] = ()
) -> None:
    """Raises a ValueError if the keyword arguments `given` to `cls` are not all in `known`.

    The error suggests a name from `similar` if one is spelled nearly the same.
    """
    for name in given:
        if name in known:
            continue
        close = difflib.get_close_matches(name, similar, n=1)
        instead = INSTEAD.get(name) or (f"did you mean {close[0]}?" if close else "")
        raise ValueError(
            f"{cls.__name__} takes no argument {name!r}{f': {instead}' if instead else ''}"
        )


def checked_positive_integer(name: str, value: Any) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        integer = 0
    if integer <= 0 or isinstance(value, bool):
        raise ValueError(f"{name} must be a positive integer, but is {value!r}")
    return integer


def checked_rate(name: str, value: Any) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= float(value) < 1:
        raise ValueError(f"{name} must be in [0, 1), but is {value!r}")
    return float(value)


def checked_number(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, but is {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, but is {value!r}")
    return float(value)


def checked_bias(name: str, value: Any) -> Any:
    """A finite number as a float, or an initializer; "time_scales" is `TimeScales()`."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        if checked_number(name, value) > LARGEST_BIAS:
            warnings.warn(
                f"{name}={value!r} is a memory of exp({value!r}) steps. For a memory of up to T "
                "steps, pass tf_plr.initializers.TimeScales(T)",
                stacklevel=5,
            )
        return checked_number(name, value)
    if isinstance(value, str) and value == "time_scales":
        return TimeScales()  # A new one for each layer, with its own seed.
    if isinstance(value, (str, dict)) or callable(value):
        return keras.initializers.get(value)
    raise TypeError(f"{name} must be a number or an initializer, but is {value!r}")


def checked_input_bias(value: Any) -> Any:
    """Checks a value like `bias`, but also accepts None, "coupled" and "normalized"."""
    if value is None or (isinstance(value, str) and value in ("coupled", "normalized")):
        return value
    try:
        return checked_bias("input_bias", value)
    except ValueError as error:
        raise ValueError(
            'input_bias must be a number, an initializer, "coupled" or "normalized", but is '
            f"{value!r}"
        ) from error
