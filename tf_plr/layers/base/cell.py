# SPDX-License-Identifier: MIT
"""The base class of all cells. See docs/own_layer.md to write one; gilr.py is the shortest."""

from typing import Any, ClassVar, Unpack

import keras
import tensorflow as tf
from keras import ops

from tf_plr._types import (
    ActivationLike,
    BiasLike,
    ConstraintLike,
    InitializerLike,
    RegularizerLike,
    Tensor,
)
from tf_plr.layers.base import arguments
from tf_plr.layers.base.arguments import KerasOptions
from tf_plr.layers.base.biases import initial_bias, serialize_bias
from tf_plr.layers.base.gates import GatedRecurrence
from tf_plr.layers.base.inputs import as_numbers, check_real, states_of
from tf_plr.layers.base.steps import OneStep, Steps


class LinearRecurrentCell(GatedRecurrence, keras.layers.Layer):
    """A cell whose state obeys a linear recurrence, so that all steps can be computed at once.

    To write a layer of your own, derive a cell from this class: set `blocks` and `forget_block`,
    create `kernel` and `bias` in `build` with `add_kernel` and `add_bias`, and define the model in
    `recur`. Then derive a layer from `LinearRecurrentLayer`, and set its `cell_class` to the cell.

    Under a 16-bit policy, inputs, products and outputs have 16 bits. Biases, gates, states and the
    recurrence are float32: in 16 bits, rounding would erase a memory of more than some hundred
    steps. (In `keras.layers.RNN` it does, because that layer casts states to 16 bits between
    steps.)

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation function. Default: tanh.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`.
        bias_initializer: Initializer of `bias`, except the forget gate's. Default: `"zeros"`.
        forget_bias: A number or an initializer: the initial bias of the forget gate. A gate with
            bias b remembers about exp(b) steps. None, the default: use `bias_initializer`.
        kernel_regularizer: Regularizer of `kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop. A layer drops the same
            features at all steps; a cell on its own draws new ones at each step.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain, before the bias is added.
        seed: Random seed for dropout.
        **kwargs: What every Keras layer takes, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor [batch, features].
        states: List of tensors [batch, size], of the sizes in `state_size`.
        training: Whether to apply dropout.

    Returns:
        The output, [batch, units], and the list of next states. Each has the dtype of the state
        that was passed.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
    """

    # Names of the blocks of `kernel` and `bias`, in order. Each block is `units` wide.
    blocks: tuple[str, ...] = ()
    forget_block: ClassVar[str | None] = None  # The block whose bias starts at `forget_bias`.
    input_bias: Any = None  # The initial bias of an "input" block; None: use `bias_initializer`.
    own_arguments: tuple[str, ...] = ()  # Arguments that only the cell takes, not its layer.
    fuses = True  # Whether a step may run as a fused op. A layer of stock ops sets it to False.

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        *,
        recurrent_activation: ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        forget_bias: BiasLike | None = None,
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        layer_normalization: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                f"tf_plr runs on Keras' TensorFlow backend, but the backend is "
                f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before importing keras."
            )
        arguments.check_names(type(self), [n for n in kwargs if n in arguments.INSTEAD], ())
        # With autocast, Keras would cast the states, too. `call` casts the inputs instead.
        super().__init__(**{**kwargs, "autocast": False})
        if forget_bias is not None and self.forget_block is None:
            raise ValueError(
                f"forget_bias is {forget_bias!r}, but {type(self).__name__} has no forget_block: "
                "leave forget_bias out, or set forget_block in the class"
            )
        self.units = arguments.checked_positive_integer("units", units)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.forget_bias = (
            None if forget_bias is None else arguments.checked_bias("forget_bias", forget_bias)
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = arguments.checked_rate("dropout", dropout)
        self.layer_normalization = layer_normalization
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    @property
    def output_size(self) -> int:
        return self.units

    @property
    def state_size(self) -> list[int]:
        """Sizes of the state tensors [batch, size], in order."""
        return [self.units]

    @property
    def gate_dtype(self) -> str:
        """The dtype of gates and impulses: float32 under a 16-bit policy."""
        narrow = self.compute_dtype in ("float16", "bfloat16")
        return "float32" if narrow else str(self.compute_dtype)

    @property
    def state_dtype(self) -> str:
        """The dtype of states and of the recurrence; a cell with complex states overrides it."""
        return self.gate_dtype

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        return [ops.zeros((batch_size, size), dtype=self.state_dtype) for size in self.state_size]

    def recur(
        self, steps: Steps, inputs: Tensor, states: list[Tensor], training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Computes one step or all steps: `steps` determines which (see steps.py).

        Args:
            steps: A `OneStep` or `AllSteps`.
            inputs: [batch, input_dim] or [batch, time, input_dim], of the compute dtype.
            states: List of tensors [batch, size], sizes as in `state_size`, of `state_dtype`.
            training: Whether to apply dropout.

        Returns:
            The output, [batch, units] or [batch, time, units], and the list of last states.
        """
        raise NotImplementedError(f"{type(self).__name__} must define recur")

    def call(
        self, inputs: Tensor, states: Any, training: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        inputs = as_numbers("inputs", inputs, self.compute_dtype, self.state_dtype)
        states = states_of("states", inputs, states, self.state_size, self.state_dtype)
        kept = [self.state_dtype if _is_integer(state) else state.dtype for state in states]
        states = [ops.cast(state, self.state_dtype) for state in states]
        output, states = self.recur(OneStep(self.fuses), inputs, states, training)
        states = [ops.cast(s, dtype) for s, dtype in zip(states, kept, strict=True)]
        check_real(f"the outputs of {type(self).__name__}.recur", output)
        return ops.cast(output, self.compute_dtype), states

    # Helpers for `build`.

    def add_kernel(self, shape: tuple[int, ...]) -> Any:
        return self.add_weight(
            shape=shape,
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def add_bias(self) -> Any:
        """Adds the biases of all blocks as one vector of `gate_dtype`; None without `use_bias`."""
        if not self.use_bias:
            return None
        return self.add_weight(
            shape=(len(self.blocks) * self.units,),
            name="bias",
            initializer=self._initial_bias,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            dtype=self.gate_dtype,
            autocast=False,
        )

    def bias_starts(self) -> dict[str, Any]:
        """The initial biases of the blocks that do not use `bias_initializer`.

        Maps the name of a block to (name of the argument, a number or an initializer).
        """
        starts = {}
        if self.forget_block is not None and self.forget_bias is not None:
            starts[self.forget_block] = ("forget_bias", self.forget_bias)
        if self.input_bias is not None and "input" in self.blocks:
            starts["input"] = ("input_bias", self.input_bias)
        return starts

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any) -> Tensor:
        return initial_bias(
            self.blocks, self.forget_block, self.bias_starts(), self.bias_initializer, shape, dtype
        )

    # Helpers for `recur`.

    def drop_inputs(self, steps: Steps, inputs: Tensor, training: bool) -> Tensor:
        if training and self.dropout > 0:
            return steps.drop(inputs, self.dropout, self.seed_generator)
        return inputs

    def product(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The matrix product in the compute dtype, or in the inputs' dtype if that is complex."""
        is_complex = tf.as_dtype(inputs.dtype).is_complex
        dtype = inputs.dtype if is_complex else self.compute_dtype
        return ops.matmul(ops.cast(inputs, dtype), ops.cast(kernel, dtype))

    def get_config(self) -> dict[str, Any]:
        config = {
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "forget_bias": serialize_bias(self.forget_bias),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "dropout": self.dropout,
            "layer_normalization": self.layer_normalization,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}


def _is_integer(tensor: Tensor) -> bool:
    dtype: str = keras.backend.standardize_dtype(tensor.dtype)
    return dtype.startswith(("int", "uint", "bool"))
