# SPDX-License-Identifier: MIT
"""`keras.layers.Bidirectional` for packed sequences."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tf_plr._types import Tensor
from tf_plr.layers.base.layer import LinearRecurrentLayer

_MERGES: dict[str | None, Callable[[Tensor, Tensor], Any]] = {
    "concat": lambda forward, backward: ops.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "mul": lambda forward, backward: forward * backward,
    None: lambda forward, backward: (forward, backward),
}


@keras.saving.register_keras_serializable(package="tf_plr")
class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` that passes `resets` on to its layers.

    Everything else is as in Keras, whose own wrapper takes no further call arguments.

    Example:

    >>> layer = tf_plr.layers.Bidirectional(tf_plr.GILR(8, return_sequences=True))
    >>> resets = tf.constant([[True, False, False, True, False]])
    >>> layer(tf.zeros((1, 5, 3)), resets=resets).shape
    TensorShape([1, 5, 16])

    Args:
        *args: As for `keras.layers.Bidirectional`.
        **kwargs: As for `keras.layers.Bidirectional`.

    Call arguments:
        sequences: Tensor [batch, time, features].
        initial_state: List of the forward layer's states, then the backward layer's.
        mask: Boolean tensor [batch, time], False where a step is masked.
        training: Whether to apply dropout.
        resets: Boolean tensor [batch, time]. True where a step is the first of a new sequence. The
            backward layer starts anew at the last step of each sequence. None: each row is one
            sequence.

    Raises:
        TypeError: `resets` are given, but a layer does not take them.
    """

    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None, resets_shape: Any = None
    ) -> None:
        super().build(sequences_shape, initial_state_shape)

    def compute_output_shape(
        self, sequences_shape: Any, initial_state_shape: Any = None, resets_shape: Any = None
    ) -> Any:
        return super().compute_output_shape(sequences_shape, initial_state_shape)

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor = None,
        training: bool | None = None,
        resets: Tensor = None,
    ) -> Any:
        if resets is None:
            return super().call(sequences, initial_state, mask, training)
        start = [None, None]
        if initial_state is not None:
            half = len(initial_state) // 2
            start = [initial_state[:half], initial_state[half:]]
        outputs: list[Tensor] = []
        states: list[Tensor] = []
        for layer, state in zip((self.forward_layer, self.backward_layer), start, strict=True):
            if not isinstance(layer, LinearRecurrentLayer):
                raise TypeError(
                    f"resets need layers of tf_plr, but {layer.name} is a {type(layer).__name__}"
                )
            result = layer(
                sequences, initial_state=state, mask=mask, training=bool(training), resets=resets
            )
            output, *last = result if self.return_state else [result]
            outputs.append(ops.cast(output, self.compute_dtype))
            states += last
        forward, backward = outputs
        if self.return_sequences:
            backward = ops.flip(backward, axis=1)
        merged = _MERGES[self.merge_mode](forward, backward)
        if not self.return_state:
            return merged
        return (*merged, *states) if self.merge_mode is None else (merged, *states)
