# SPDX-License-Identifier: MIT
"""Where a forget gate's bias may start, for a memory of a known length."""

from typing import Any

import keras
from keras import ops

from tf_plr.layers import checks


@keras.saving.register_keras_serializable(package="tf_plr")
class Chrono(keras.initializers.Initializer):
    """Biases of forget gates for memories of up to `max_steps` steps.

    ```
    b = log(u),    u drawn uniformly from [1, max_steps - 1]
    ```

    A gate with bias b forgets over about exp(b) steps, so the units share out the memories up to
    `max_steps` among them.

    Example:

    >>> chrono = tf_plr.initializers.Chrono(max_steps=784)
    >>> layer = tf_plr.GILRLSTM(16, forget_bias=chrono, input_bias="coupled")

    Args:
        max_steps: Number of at least 2, the length of the longest dependency, in steps.
        seed: Random seed. None: another draw at each call.

    Reference:
        Tallec and Ollivier, *Can recurrent neural networks warp time?*, ICLR 2018
        (https://arxiv.org/abs/1804.11188): the chrono initialization.
    """

    def __init__(self, max_steps: float, seed: int | None = None) -> None:
        if checks.number("max_steps", max_steps) < 2:
            raise ValueError(f"max_steps must be at least 2, but is {max_steps!r}")
        self.max_steps = max_steps
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.log(keras.random.uniform(shape, 1, self.max_steps - 1, dtype, seed=self.seed))

    def get_config(self) -> dict[str, Any]:
        return {"max_steps": self.max_steps, "seed": self.seed}
