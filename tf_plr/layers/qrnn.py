# SPDX-License-Identifier: MIT
"""QRNN: quasi-recurrent network, a causal convolution and a recurrent pooling."""

from typing import Any, Literal, Unpack

import keras
from keras import ops

from tf_plr import _types as types
from tf_plr._types import Tensor
from tf_plr.layers import base
from tf_plr.layers.base import arguments
from tf_plr.layers.base.biases import serialize_bias

# The gates of each pooling, in the order of their blocks, which follow the candidate's block.
POOLINGS = {"f": ("forget",), "fo": ("forget", "output"), "ifo": ("forget", "output", "input")}


@keras.saving.register_keras_serializable(package="tf_plr")
class QRNNCell(base.LinearRecurrentCell):
    """One step of `QRNN`, for decoding and for `keras.layers.RNN`.

    It takes the arguments of `QRNN` from `units` to `seed`, and `input_dim`. At each step,
    `dropout` chooses anew which features to drop.

    Args:
        input_dim: Positive integer, number of input features. The state sizes depend on it, and
            `keras.layers.RNN` asks for the state sizes before it builds the cell.

    Call arguments:
        inputs: Tensor [batch, features].
        states: List of c, [batch, units], and, if `kernel_size` > 1, the last `kernel_size - 1`
            inputs, oldest first, [batch, (kernel_size - 1) * features].
        training: Whether to apply dropout.

    Returns:
        The output, [batch, units], and the list of next states.
    """

    forget_block = "forget"
    own_arguments = ("input_dim",)

    def __init__(
        self,
        units: int,
        activation: types.ActivationLike = "tanh",
        *,
        kernel_size: int = 2,
        pooling: Literal["f", "fo", "ifo"] = "fo",
        forget_bias: types.BiasLike = "time_scales",
        input_bias: types.BiasLike | None = "normalized",
        input_dim: int | None = None,
        **kwargs: Unpack[base.CellArguments],
    ) -> None:
        super().__init__(units, activation, forget_bias=forget_bias, **kwargs)
        self.kernel_size = arguments.checked_positive_integer("kernel_size", kernel_size)
        if pooling not in tuple(POOLINGS):  # A tuple, because `pooling` may not be hashable.
            raise ValueError(f"pooling must be one of {tuple(POOLINGS)}, but is {pooling!r}")
        self.pooling = pooling
        self.blocks = ("candidate", *POOLINGS[pooling])
        self.input_bias = arguments.checked_input_bias(input_bias)
        if input_bias not in (None, "normalized") and "input" not in self.blocks:
            raise ValueError(
                f'input_bias is {input_bias!r}, but only pooling="ifo" has an input gate, and '
                f"pooling is {pooling!r}"
            )
        if input_dim is not None:
            input_dim = arguments.checked_positive_integer("input_dim", input_dim)
        self.input_dim = self._features = input_dim

    @property
    def state_size(self) -> list[int]:
        if self.kernel_size == 1:
            return [self.units]
        if self._features is None:
            raise ValueError(
                "the size of a QRNN's states depends on its inputs: call the layer first, or give "
                "the cell input_dim"
            )
        return [self.units, (self.kernel_size - 1) * self._features]

    def build(self, input_shape: Any) -> None:
        if self.input_dim not in (None, input_shape[-1]):
            raise ValueError(
                f"input_dim is {self.input_dim}, but inputs have {input_shape[-1]} features"
            )
        self._features = input_shape[-1]
        filters = len(self.blocks) * self.units
        self.kernel = self.add_kernel((self.kernel_size, self._features, filters))
        self.bias = self.add_bias()
        self.normalization = self.add_normalization(len(self.blocks))

    def recur(
        self, steps: base.Steps, inputs: Tensor, states: list[Tensor], training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        inputs = self.drop_inputs(steps, inputs, training)
        c, *history = states
        if history:
            kernel = ops.cast(self.kernel, self.compute_dtype)
            product, *history = steps.convolve(inputs, kernel, *history)
        else:
            product = self.product(inputs, self.kernel[0])
        output, c = self.recur_gated(
            steps,
            product,
            c,
            self.blocks,
            bias=self.bias,
            normalization=self.normalization,
            output="gated" if "output" in self.blocks else "state",
            is_output=True,
            training=training,
        )
        return output, [c, *history]

    def get_config(self) -> dict[str, Any]:
        config = {
            "kernel_size": self.kernel_size,
            "pooling": self.pooling,
            "input_bias": serialize_bias(self.input_bias),
            "input_dim": self.input_dim,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="tf_plr")
class QRNN(base.LinearRecurrentLayer):
    """Quasi-recurrent network.

    ```
    z_t, f_t, o_t, i_t = tanh(W_z * x), sigmoid(W_f * x), sigmoid(W_o * x), sigmoid(W_i * x) at t
    pooling "f":    c_t = f_t . c_{t-1} + (1 - f_t) . z_t,   h_t = c_t
    pooling "fo":   c_t as above,                            h_t = o_t . c_t
    pooling "ifo":  c_t = f_t . c_{t-1} + i_t . z_t,         h_t = o_t . c_t
    ```

    where W * x is a causal convolution: at t it sees x_{t-kernel_size+1} to x_t. The equations
    omit the biases. `kernel` is [kernel_size, input_dim, blocks], oldest input first, with the
    blocks z, f, o, i that `pooling` needs. The window skips masked steps: it holds the last valid
    inputs. There is no zoneout.

    The code of Martin and Cundy stacks one shifted copy too few: none at all for a width of 2. Here
    `kernel_size` is the width in the equations.

    Example:

    >>> tf_plr.QRNN(16, kernel_size=3)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 16])

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation of the candidate z. Default: tanh.
        kernel_size: Positive integer, width of the convolution in steps.
        pooling: `"f"`, `"fo"` or `"ifo"`: see the equations.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`. (The authors' code
            draws weights uniformly from -0.05 to 0.05.)
        bias_initializer: Initializer of `bias`, except for the forget gate. Default: `"zeros"`.
        forget_bias: A number or an initializer: the initial bias of the forget gate f. A gate with
            bias b remembers about exp(b) steps. Default: `"time_scales"`, which means
            `TimeScales()`: memories of 1 to 1,000 steps.
        input_bias: A number or an initializer: the initial bias of the input gate i. `"coupled"`: i
            starts at 1 - f (Tallec and Ollivier, 2018). `"normalized"`, the default: i starts with
            i^2 + f^2 = 1, so that c starts with the variance of the candidates, however long the
            memory (Orvieto et al., ICML 2023, section 3.4). None: use `bias_initializer`. Only
            pooling "ifo" has an input gate.
        kernel_regularizer: Regularizer of `kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop, the same at all steps.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain and epsilon 1e-3, before the bias is added. (The authors' code divides by
            variance + 1e-3, not by its square root.)
        seed: Random seed for dropout.
        return_sequences: Whether to return the output of every step, or of the last one only.
        return_state: Whether to return the last states too.
        go_backwards: Whether to process, and return, the steps from last to first.
        stateful: Whether a batch starts from the last states of the batch before.
        zero_output_for_mask: Whether masked steps output zeros, not the last valid output.
        algorithm: See `tf_plr.linear_recurrence`.
        sequence_parallel: Whether the replicas of a `tf.distribute` strategy hold consecutive parts
            of each sequence: see `tf_plr.distributed.shard_sequences`.
        **kwargs: Arguments of all Keras layers, such as `name`, `dtype` and `activity_regularizer`.

    Call arguments:
        sequences: Tensor [batch, time, features].
        initial_state: List of the states before the first step: c, [batch, units], and, if
            `kernel_size` > 1, the last inputs, [batch, (kernel_size - 1) * features]. None: zeros.
        mask: Boolean tensor [batch, time]. Steps where it is False do not change the states. None:
            the mask that Keras attached to `sequences`.
        training: Whether to apply dropout.
        resets: Boolean tensor [batch, time]. True where a step is the first of a new sequence: then
            all states before it are zeros. None: each row is one sequence.

    Output shape:
        [batch, time, units] if `return_sequences`, or else [batch, units]; if `return_state`,
        followed by the states.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
        tf.errors.InvalidArgumentError: the same, if shapes are known only when the graph runs.

    References:
        Bradbury, Merity, Xiong and Socher, *Quasi-Recurrent Neural Networks*, ICLR 2017
        (https://arxiv.org/abs/1611.01576), equations 1 to 5; Martin and Cundy, *Parallelizing
        Linear Recurrent Neural Nets Over Sequence Length*, ICLR 2018, section 4.1.
    """

    cell_class = QRNNCell
    kernel_size: base.CellAttribute[int] = base.CellAttribute()
    pooling: base.CellAttribute[str] = base.CellAttribute()
    input_bias: base.CellAttribute[Any] = base.CellAttribute()

    def __init__(
        self,
        units: int,
        activation: types.ActivationLike = "tanh",
        *,
        kernel_size: int = 2,
        pooling: Literal["f", "fo", "ifo"] = "fo",
        recurrent_activation: types.ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: types.InitializerLike = "glorot_uniform",
        bias_initializer: types.InitializerLike = "zeros",
        forget_bias: types.BiasLike = "time_scales",
        input_bias: types.BiasLike | None = "normalized",
        kernel_regularizer: types.RegularizerLike = None,
        bias_regularizer: types.RegularizerLike = None,
        kernel_constraint: types.ConstraintLike = None,
        bias_constraint: types.ConstraintLike = None,
        dropout: float = 0.0,
        layer_normalization: bool = False,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        algorithm: types.Algorithm = "auto",
        sequence_parallel: bool = False,
        **kwargs: Unpack[base.LayerOptions],
    ) -> None:
        super().__init__(
            units, activation, kernel_size=kernel_size, pooling=pooling,
            recurrent_activation=recurrent_activation, use_bias=use_bias,
            kernel_initializer=kernel_initializer, bias_initializer=bias_initializer,
            forget_bias=forget_bias, input_bias=input_bias, kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint, dropout=dropout,
            layer_normalization=layer_normalization, seed=seed, return_sequences=return_sequences,
            return_state=return_state, go_backwards=go_backwards, stateful=stateful,
            zero_output_for_mask=zero_output_for_mask, algorithm=algorithm,
            sequence_parallel=sequence_parallel, **kwargs,
        )  # fmt: skip
