# SPDX-License-Identifier: MIT
"""Initializers of forget gates' biases, which set the time scales of a layer's memory."""

import math
import numbers
import random
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tf_plr")
class TimeScales(keras.initializers.Initializer):
    """Biases of forget gates that spread the units' time scales evenly, on a logarithmic scale.

    ```
    tau = max_steps ** u,    u drawn uniformly from [0, 1)
    b = -log(exp(1 / tau) - 1)
    ```

    With bias b, a gate starts at sigmoid(b) = exp(-1 / tau): a state decays to 1 / e of its value
    in tau steps. Some units thus follow the last few inputs, and others average over `max_steps`.
    All layers initialize their forget biases in this way by default. In their arguments,
    `"time_scales"` is short for `TimeScales()`.

    Example:

    >>> layer = tf_plr.GILRLSTM(16, forget_bias=tf_plr.initializers.TimeScales(max_steps=10_000))

    Args:
        max_steps: Number, at least 1: the longest time scale in steps, about the length of the
            longest dependency. Default: 1000.
        seed: Integer, the random seed. As in Keras, an initializer draws the same values at each
            call. None, the default: each initializer chooses its own seed.

    Raises:
        TypeError: `max_steps` is not a number.
        ValueError: `max_steps` is not finite, or less than 1.
    """

    def __init__(self, max_steps: float = 1000, seed: int | None = None) -> None:
        self.max_steps = _at_least("max_steps", max_steps, 1)
        self.seed = seed
        self._draw = _seed_or_another(seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        log_tau = keras.random.uniform(shape, 0, math.log(self.max_steps), dtype, seed=self._draw)
        return -ops.log(ops.expm1(ops.exp(-log_tau)))

    def get_config(self) -> dict[str, Any]:
        return {"max_steps": self.max_steps, "seed": self.seed}


@keras.saving.register_keras_serializable(package="tf_plr")
class Chrono(keras.initializers.Initializer):
    """Biases of forget gates for memories of up to `max_steps` steps, most of them long.

    ```
    b = log(u),    u drawn uniformly from [1, max_steps - 1]
    ```

    A gate with bias b forgets over about exp(b) steps. Half of the units remember more than
    `max_steps / 2` steps; `TimeScales` has as many units for short memories as for long ones.

    Example:

    >>> layer = tf_plr.GILRLSTM(16, forget_bias=tf_plr.initializers.Chrono(max_steps=784))

    Args:
        max_steps: Number, at least 2: the length of the longest dependency in steps.
        seed: Integer, the random seed. As in Keras, an initializer draws the same values at each
            call. None, the default: each initializer chooses its own seed.

    Raises:
        TypeError: `max_steps` is not a number.
        ValueError: `max_steps` is not finite, or less than 2.

    Reference:
        Tallec and Ollivier, *Can recurrent neural networks warp time?*, ICLR 2018
        (https://arxiv.org/abs/1804.11188): the chrono initialization.
    """

    def __init__(self, max_steps: float, seed: int | None = None) -> None:
        self.max_steps = _at_least("max_steps", max_steps, 2)
        self.seed = seed
        self._draw = _seed_or_another(seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.log(keras.random.uniform(shape, 1, self.max_steps - 1, dtype, seed=self._draw))

    def get_config(self) -> dict[str, Any]:
        return {"max_steps": self.max_steps, "seed": self.seed}


def _at_least(name: str, value: Any, least: int) -> Any:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, but is {value!r}")
    if not (math.isfinite(value) and float(value) >= least):
        raise ValueError(f"{name} must be finite and at least {least}, but is {value!r}")
    return value


def _seed_or_another(seed: int | None) -> int:
    """Returns `seed`, or a random one, as Keras' initializers do.

    Keras' global seed generator would create a variable, which fails inside a tf.function.
    keras.utils.set_random_seed makes these random seeds repeatable, too.
    """
    return random.randint(1, 10**9) if seed is None else seed
