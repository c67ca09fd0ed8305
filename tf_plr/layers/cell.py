# SPDX-License-Identifier: MIT
"""What all cells share: see docs/own_layer.md for how to write one, gilr.py for the shortest."""

from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import ops
from typing_extensions import Unpack

from tf_plr.layers import checks, fusion
from tf_plr.layers.steps import OneStep, Steps
from tf_plr.layers.types import (
    ActivationLike,
    BiasLike,
    CellOptions,
    ConstraintLike,
    InitializerLike,
    RegularizerLike,
    Tensor,
)


class LinearRecurrentCell(keras.layers.Layer):
    """A cell whose state obeys a linear recurrence, so that all steps can be computed at once.

    To write a layer of your own, derive a cell from this class: set `blocks` and `forget_block`,
    create `kernel` and `bias` in `build` with `add_kernel` and `add_bias`, and define the model in
    `recur`; then name it in a `LinearRecurrentLayer`.

    With a 16-bit policy, inputs, products and outputs have 16 bits; biases, gates, states and the
    recurrence are float32, or a memory of more than some hundred steps would be rounded away. (So
    it is in `keras.layers.RNN`, which casts states to 16 bits between steps.)

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation function. Default: tanh.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`.
        bias_initializer: Initializer of `bias`, but for the forget gate's. Default: `"zeros"`.
        forget_bias: A number or an initializer: where the forget gate's bias starts. A bias of b
            remembers about exp(b) steps. None, the default: as `bias_initializer` has it.
        kernel_regularizer: Regularizer of `kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop: the same at all steps in
            a layer; in a cell on its own, others at each step.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain, before the bias is added.
        seed: Random seed for dropout.
        **kwargs: What every Keras layer takes, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor [batch, features].
        states: List of tensors [batch, size], of the sizes in `state_size`.
        training: Whether to apply dropout.

    Returns:
        The output, [batch, units], and the list of next states, each of the dtype that it came in.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
    """

    blocks: tuple[str, ...] = ()  # Of `kernel` and `bias`, each `units` wide, in order.
    forget_block: ClassVar[str | None] = None  # The block whose bias starts at `forget_bias`.
    fuses = True  # Whether a step may be a fused op; that of a "composed" layer must not.

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
        **kwargs: Unpack[CellOptions],
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                f"tf_plr runs on Keras' TensorFlow backend, but the backend is "
                f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before importing keras."
            )
        checks.arguments_of(type(self), [n for n in kwargs if n in checks.INSTEAD], ())
        # States are not to be cast: `call` casts what is.
        super().__init__(**{**kwargs, "autocast": False})
        if forget_bias is not None and self.forget_block is None:
            raise ValueError(
                f"forget_bias is {forget_bias!r}, but {type(self).__name__} has no forget_block "
                "whose bias could start there"
            )
        self.units = checks.positive_integer("units", units)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.forget_bias = None if forget_bias is None else checks.bias("forget_bias", forget_bias)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = checks.rate("dropout", dropout)
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
        """Computes one step or all steps, as `steps` has it (see steps.py).

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
        inputs = checks.numbers_of("inputs", inputs, self.compute_dtype, self.state_dtype)
        states = checks.states_of("states", inputs, states, self.state_size, self.state_dtype)
        kept = [self.state_dtype if _is_integer(state) else state.dtype for state in states]
        states = [ops.cast(state, self.state_dtype) for state in states]
        output, states = self.recur(OneStep(self.fuses), inputs, states, training)
        states = [ops.cast(s, dtype) for s, dtype in zip(states, kept, strict=True)]
        checks.real(f"the outputs of {type(self).__name__}.recur", output)
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
        """One vector of `gate_dtype` with all blocks, or None."""
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
        """Where the bias of a block starts, if not at `bias_initializer`: name, and argument.

        Each value is (name of the argument, a number or an initializer).
        """
        if self.forget_block is None or self.forget_bias is None:
            return {}
        return {self.forget_block: ("forget_bias", self.forget_bias)}

    def add_normalization(self, blocks: int, name: str = "normalization") -> Any:
        """A layer that normalises the product that makes `blocks`, or None."""
        if not self.layer_normalization:
            return None
        layer = keras.layers.LayerNormalization(
            epsilon=1e-3, center=False, name=name, dtype=self.gate_dtype
        )
        layer.build((None, blocks * self.units))
        return layer

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any) -> Tensor:
        # Once for all blocks: an initializer gives equal shapes equal values.
        bias = _initial("bias_initializer", self.bias_initializer, shape, dtype)
        blocks = dict(zip(self.blocks, ops.split(bias, len(self.blocks)), strict=True))
        for block, (name, start) in self.bias_starts().items():
            if start == "coupled":
                blocks[block] = -blocks[str(self.forget_block)]
            elif start == "normalized":
                blocks[block] = _normalizing_bias(blocks[str(self.forget_block)])
            elif callable(start):
                blocks[block] = _initial(name, start, (self.units,), dtype)
            else:
                blocks[block] = ops.full((self.units,), start, dtype=dtype)
        return ops.concatenate(list(blocks.values()))

    # Helpers for `recur`.

    def drop_inputs(self, steps: Steps, inputs: Tensor, training: bool) -> Tensor:
        if training and self.dropout > 0:
            return steps.drop(inputs, self.dropout, self.seed_generator)
        return inputs

    def product(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The matrix product, in the compute dtype; of complex inputs, in theirs."""
        is_complex = tf.as_dtype(inputs.dtype).is_complex
        dtype = inputs.dtype if is_complex else self.compute_dtype
        return ops.matmul(ops.cast(inputs, dtype), ops.cast(kernel, dtype))

    def preactivations(self, product: Tensor, normalization: Any, bias: Any) -> list[Tensor]:
        """Splits a product into blocks of `gate_dtype`, after normalisation and bias."""
        checks.real("the products of gates", product)
        product = ops.cast(_normalized(product, normalization), self.gate_dtype)
        if bias is not None:
            product = ops.add(product, bias)
        return list(ops.split(product, product.shape[-1] // self.units, axis=-1))

    def recur_gated(
        self,
        steps: Steps,
        product: Tensor,
        state: Tensor,
        blocks: tuple[str, ...],
        *,
        bias: Tensor = None,
        normalization: Any = None,
        activation: Any = None,
        state_activation: Any = None,
        output: str = "state",
        highway: Tensor = None,
        in_front: Tensor = None,
        training: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Computes the recurrence that all layers share, as one fused op where there is one.

        ```
        c_t = f_t * c_{t-1} + i_t * activation(z_t),    f_t, i_t, o_t = sigmoid(blocks)
        ```

        There is one for `sigmoid` gates with these: elu or tanh without input and output gate;
        tanh with an output gate; tanh with both; the identity with an output gate and a highway.
        There is none in `algorithm="composed"`, in float64, and for 16-bit products with an odd
        number of units.

        Args:
            steps: That of `recur`.
            product: [..., blocks * units], of the compute dtype.
            state: c before the first step.
            blocks: What the blocks of `product` are, in their order: "forget", "candidate", and if
                there are, "input" (else i_t = 1 - f_t), "output", and last "highway", x_t.
            bias: Of all blocks but the highway's; or None.
            normalization: Of the same blocks, made by `add_normalization`; or None.
            activation: That of the candidate. Default: the cell's.
            state_activation: g, the activation of c_t on its way out. Default: none.
            output: "state": c_t; "previous": c_{t-1}; "gated": o_t * g(c_t); "highway":
                o_t * g(c_t) + (1 - o_t) * x_t.
            highway: x_t, if it is no block of the product.
            in_front: Of "previous", where it is fused: is put before the output, filled up with
                zeros to a multiple of 8.
            training: Whether a gradient is likely to be asked for.

        Returns:
            The output, [..., units], of the compute dtype where it is fused, else of `gate_dtype`;
            and c after the last step. What masked steps have there, before the layer holds it or
            makes it zeros, is not to be relied on.
        """
        activation = self.activation if activation is None else activation
        native = self.native_cell(steps, product, normalization, activation, blocks, output)
        plain = state_activation in (None, keras.activations.linear)
        fused = native is not None and plain
        if "highway" in blocks and (normalization is not None or not fused):
            of_gates = (len(blocks) - 1) * self.units
            product, highway = tf.split(product, [of_gates, self.units], axis=-1)
            blocks = blocks[:-1]
        if fused:
            product = _normalized(product, normalization)
            beside = in_front if highway is None else highway
            order = ("forget", "candidate", "input", "output", "highway")
            return steps.gated(
                product,
                state,
                bias=None if bias is None else ops.convert_to_tensor(bias),
                beside=None if beside is None else ops.cast(beside, product.dtype),
                cell=native,
                blocks=[blocks.index(name) for name in order if name in blocks],
                keep_states=bool(training),
            )
        parts = self.preactivations(product, normalization, bias)
        block = dict(zip(blocks, parts, strict=True))
        forget, input_ = self.gate(block["forget"])
        if "input" in block:
            input_ = self.recurrent_activation(block["input"])
        states, last = steps.recur(forget, input_ * activation(block["candidate"]), state)
        if output == "previous":
            return steps.previous(states, state), last
        if output == "state":
            return states, last
        out, closed = self.gate(block["output"])
        outputs = out * (states if plain else state_activation(states))
        if output == "highway":
            outputs += closed * ops.cast(highway, self.gate_dtype)
        return outputs, last

    def native_cell(
        self,
        steps: Steps,
        product: Tensor,
        normalization: Any,
        activation: Any,
        blocks: tuple[str, ...],
        output: str,
    ) -> str | None:
        """The name of the fused op's cell that `recur_gated` would run, or None."""
        dtype = product.dtype if normalization is None else self.gate_dtype
        as_here = (
            type(self).gate is LinearRecurrentCell.gate
            and type(self).preactivations is LinearRecurrentCell.preactivations
            and self.recurrent_activation is keras.activations.sigmoid
            and self.state_dtype == self.gate_dtype == "float32"
        )
        if not (steps.fuses and as_here and fusion.suits(dtype, self.units)):
            return None
        return fusion.native_cell(activation, "input" in blocks, output)

    def gate(self, preactivation: Tensor) -> tuple[Tensor, Tensor]:
        """A gate, and 1 - gate without the digits that the subtraction would cancel."""
        gate = self.recurrent_activation(preactivation)
        if self.recurrent_activation is keras.activations.sigmoid:
            return gate, ops.sigmoid(-preactivation)
        return gate, 1 - gate

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


def _normalized(product: Tensor, normalization: Any) -> Tensor:
    if normalization is None:
        return product
    # Not by calling the layer: second derivatives of Keras' are wrong.
    product = ops.cast(product, normalization.compute_dtype)
    centered = product - ops.mean(product, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
    gain = ops.cast(normalization.gamma, product.dtype)
    return centered * ops.rsqrt(variance + normalization.epsilon) * gain


def _normalizing_bias(forget_bias: Tensor) -> Tensor:
    """The bias b with i^2 = 1 - f^2 for i = sigmoid(b), f = sigmoid(forget_bias).

    In logarithms, as f, 1 - f or 1 - i may be too small: i^2 = (1 - f) (1 + f), and
    1 - i = f^2 / (1 + i).
    """
    log_f, log_complement = -ops.softplus(-forget_bias), -ops.softplus(forget_bias)
    log_i = (log_complement + ops.log1p(ops.exp(log_f))) / 2
    return log_i - (2 * log_f - ops.log1p(ops.exp(log_i)))


def _initial(name: str, initializer: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """What an initializer gives for a shape."""
    values = ops.cast(initializer(shape, dtype=dtype), dtype)
    if tuple(values.shape) != tuple(shape):
        raise ValueError(
            f"{name} must be an initializer that gives shape {tuple(shape)} for shape "
            f"{tuple(shape)}, but gave {tuple(values.shape)}"
        )
    return values


def _is_integer(tensor: Tensor) -> bool:
    dtype: str = keras.backend.standardize_dtype(tensor.dtype)
    return dtype.startswith(("int", "uint", "bool"))


def serialize_bias(bias: Any) -> Any:
    return keras.initializers.serialize(bias) if callable(bias) else bias
