# SPDX-License-Identifier: MIT
"""The base class of all layers, which runs a cell over all steps at once."""

import inspect
from typing import Any, ClassVar, Generic, TypeVar, Unpack, get_args, get_origin

import keras
import tensorflow as tf
from keras import ops

from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import ALGORITHMS, Algorithm, Tensor, uses_stock_ops
from tf_plr.distributed._exchange import Exchange
from tf_plr.layers.base import arguments, inputs
from tf_plr.layers.base.all_steps import AllSteps
from tf_plr.layers.base.arguments import LayerOptions
from tf_plr.layers.base.cell import LinearRecurrentCell
from tf_plr.layers.base.shard_steps import ShardSteps

T = TypeVar("T")


class CellAttribute(Generic[T]):
    """A read-only attribute of a layer that returns the same attribute of its cell."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type | None = None) -> T:
        if layer is None:
            return self  # type: ignore[return-value]
        value: T = getattr(layer.cell, self._name)
        return value

    def __set__(self, layer: Any, value: Any) -> None:
        raise AttributeError(
            f"{self._name} of {type(layer).__name__} is read-only: pass it to the constructor"
        )


class LinearRecurrentLayer(keras.layers.Layer):
    """Runs a cell over all steps of a sequence at once.

    A subclass sets `cell_class`. It takes the arguments of that cell, followed by the ones below.
    States, masks, `stateful`, `Bidirectional` and serialisation work as in `keras.layers.RNN`, with
    two improvements: a mask that came with the sequences still applies if `initial_state` is
    passed, and states stay float32 under a 16-bit policy.

    Args:
        *args: The cell's positional arguments.
        return_sequences: Whether to return the output of every step, or of the last one only.
        return_state: Whether to return the last states too.
        go_backwards: Whether to process, and return, the steps from last to first.
        stateful: Whether a batch starts from the last states of the batch before.
        zero_output_for_mask: Whether masked steps output zeros, not the last valid output.
        algorithm: See `tf_plr.linear_recurrence`.
        sequence_parallel: Whether the replicas of a `tf.distribute` strategy hold consecutive parts
            of each sequence, instead of whole sequences: see `tf_plr.distributed.shard_sequences`.
            Every replica then returns the last output and the last states of the whole sequence.
            Outside of replicas, the layer takes whole sequences.
        **kwargs: The cell's other arguments, and what every Keras layer takes, such as `name`,
            `dtype` and `activity_regularizer`.

    Call arguments:
        sequences: Tensor [batch, time, features].
        initial_state: List of tensors [batch, size], as in `cell.state_size`. None: zeros.
        mask: Boolean tensor [batch, time]. Steps where it is False do not change the states. None:
            the mask that Keras attached to `sequences`.
        training: Whether to apply dropout.
        resets: Boolean tensor [batch, time]. True where a step is the first of a new sequence: then
            all states before it are zeros. None: each row is one sequence.
        sequences_mask: Keras passes the mask here if it came with `sequences`.

    Output shape:
        [batch, time, units] if `return_sequences`, or else [batch, units]; if `return_state`,
        followed by the states.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
        tf.errors.InvalidArgumentError: the same, if shapes are known only when the graph runs.
    """

    cell_class: ClassVar[type[LinearRecurrentCell]]
    cell: Any

    units: CellAttribute[int] = CellAttribute()
    activation: CellAttribute[Any] = CellAttribute()
    recurrent_activation: CellAttribute[Any] = CellAttribute()
    use_bias: CellAttribute[bool] = CellAttribute()
    kernel_initializer: CellAttribute[Any] = CellAttribute()
    bias_initializer: CellAttribute[Any] = CellAttribute()
    forget_bias: CellAttribute[Any] = CellAttribute()
    kernel_regularizer: CellAttribute[Any] = CellAttribute()
    bias_regularizer: CellAttribute[Any] = CellAttribute()
    kernel_constraint: CellAttribute[Any] = CellAttribute()
    bias_constraint: CellAttribute[Any] = CellAttribute()
    dropout: CellAttribute[float] = CellAttribute()
    layer_normalization: CellAttribute[bool] = CellAttribute()
    seed: CellAttribute[int | None] = CellAttribute()

    def __init__(
        self,
        *args: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        algorithm: Algorithm = "auto",
        sequence_parallel: bool = False,
        **kwargs: Any,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {ALGORITHMS}, but is {algorithm!r}")
        if sequence_parallel and (stateful or uses_stock_ops(algorithm)):
            raise ValueError(
                'sequence_parallel must be False in a stateful layer, and with algorithm="composed"'
            )
        cell_class = getattr(type(self), "cell_class", None)
        if not (isinstance(cell_class, type) and issubclass(cell_class, LinearRecurrentCell)):
            raise TypeError(
                f"{type(self).__name__} must set cell_class to a subclass of LinearRecurrentCell, "
                f"but it is {cell_class!r}"
            )
        options: dict[str, Any] = {
            name: kwargs.pop(name) for name in [*LayerOptions.__annotations__] if name in kwargs
        }
        known = _arguments_of(cell_class)
        if known is not None:
            own = inspect.signature(LinearRecurrentLayer.__init__).parameters
            known -= set(cell_class.own_arguments)
            arguments.check_names(type(self), kwargs, known, [*known, *own])
        shared: dict[str, Any] = {k: options[k] for k in ("dtype", "trainable") if k in options}
        super().__init__(**{**options, "autocast": False})
        of_cell: dict[str, Any] = {**kwargs, **shared, "name": "cell"}
        self.cell = cell_class(*args, **of_cell)
        self.cell.fuses = not uses_stock_ops(algorithm)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.algorithm = algorithm
        self.sequence_parallel = sequence_parallel
        if sequence_parallel:
            self.supports_jit = False  # Keras then leaves XLA off.
        # In a tf.Module, TensorFlow saves the states, but Keras does not count them as weights.
        self._kept = tf.Module()
        self._kept.states = None
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    @property
    def state_size(self) -> list[int]:
        sizes: list[int] = self.cell.state_size
        return sizes

    @property
    def states(self) -> list[Any] | None:
        """What a stateful layer keeps from batch to batch; None before it is built."""
        states: list[Any] | None = self._kept.states
        return states

    def get_initial_state(self, batch_size: Any) -> list[Tensor]:
        """The states before the first step, if the call passes none and the layer keeps none."""
        states = self.cell.get_initial_state(batch_size=batch_size)
        return list(states) if isinstance(states, (list, tuple)) else [states]

    def _starts_from_zeros(self) -> bool:
        # A subclass may define other states before the first step.
        layer, cell = type(self), type(self.cell)
        return (
            layer.get_initial_state is LinearRecurrentLayer.get_initial_state
            and cell.get_initial_state is LinearRecurrentCell.get_initial_state
        )

    def reset_state(self) -> None:
        """Resets the states of a stateful layer to zeros."""
        for state in self.states or ():
            state.assign(ops.zeros_like(state.value))

    def reset_states(self) -> None:
        """As `reset_state`; `keras.layers.RNN` has both names."""
        self.reset_state()

    def compute_mask(self, sequences: Any, mask: Any) -> Any:
        mask = tf.nest.flatten(mask)[0]
        of_output = mask if self.return_sequences else None
        return [of_output, *(None for _ in self.state_size)] if self.return_state else of_output

    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None, resets_shape: Any = None
    ) -> None:
        features = inputs.features_of(sequences_shape)
        if self.built and self.input_spec.axes != {-1: features}:
            raise ValueError(
                f"{self.name} was built for {self.input_spec.axes[-1]} features, and cannot be "
                f"built again for {features}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: features})
        if not self.cell.built:
            self.cell.build((sequences_shape[0], features))
            self.cell.built = True
        if self.stateful and self.states is not None:
            self.reset_state()
        elif self.stateful:
            if sequences_shape[0] is None:
                raise ValueError(
                    "the batch size must be static in a stateful layer, but sequences have shape "
                    f"{tuple(sequences_shape)}: give the model keras.Input(batch_shape=...)"
                )
            self._kept.states = [
                keras.Variable(state, trainable=False, dtype=state.dtype, autocast=False)
                for state in self.get_initial_state(sequences_shape[0])
            ]

    def compute_output_shape(
        self, sequences_shape: Any, initial_state_shape: Any = None, resets_shape: Any = None
    ) -> Any:
        batch, time, _ = sequences_shape
        units = self.cell.output_size
        output = (batch, time, units) if self.return_sequences else (batch, units)
        if not self.return_state:
            return output
        if not self.cell.built:
            self.build(sequences_shape)
        return output, *((batch, size) for size in self.cell.state_size)

    def compute_output_spec(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor = None,
        training: bool = False,
        resets: Tensor = None,
        sequences_mask: Tensor = None,
    ) -> Any:
        shapes = self.compute_output_shape(sequences.shape)
        if not self.return_state:
            return keras.KerasTensor(shapes, self.compute_dtype)
        output, *states = shapes
        return (
            keras.KerasTensor(output, self.compute_dtype),
            *(keras.KerasTensor(shape, self.cell.state_dtype) for shape in states),
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Checks the sequences here, because Keras converts them before `call`.
        sequences = args[0] if args else kwargs.get("sequences")
        inputs.check_sequences(sequences, self.cell.state_dtype)
        return super().__call__(*args, **kwargs)

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor = None,
        training: bool = False,
        resets: Tensor = None,
        sequences_mask: Tensor = None,
    ) -> Any:
        sequences = inputs.sequences_of(
            sequences,
            self.input_spec.axes[-1],
            self.cell.compute_dtype,
            self.cell.state_dtype,
        )
        mask = sequences_mask if mask is None else mask
        sequences = self._with_known_batch(sequences, initial_state, mask, resets)
        flags = inputs.flags_of(sequences, mask, resets)
        states = self._states_before(sequences, initial_state)
        sequences = inputs.after_checks_of(sequences, [*flags, *states])
        exchange = self._exchange()
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            flags = _in_order_of_processing(flags, exchange)
        # A masked NaN would enter the kernel's gradient, as 0 * NaN.
        sequences = flags.valid(sequences)

        zeros = initial_state is None and not self.stateful and self._starts_from_zeros()
        options: dict[str, Any] = {
            "holds": not self.zero_output_for_mask,
            "zero_states": states if zeros else (),
        }
        if exchange is None:
            steps = AllSteps(self.algorithm, flags, **options)
        else:
            steps = ShardSteps(exchange, self.algorithm, flags, **options)
        outputs, states = self.cell.recur(steps, sequences, states, training)
        inputs.check_real(f"the outputs of {type(self.cell).__name__}.recur", outputs)
        if steps.is_final(outputs):
            output = outputs if self.return_sequences else outputs[:, -1]
        elif self.zero_output_for_mask:
            outputs = flags.valid(outputs)
            output = outputs if self.return_sequences else outputs[:, -1]
        else:  # In `gate_dtype`: the gradient of a held output is a sum over the steps it fills.
            outputs = ops.cast(outputs, self.cell.gate_dtype)
            hold = steps.hold if self.return_sequences else steps.hold_last
            output = hold(outputs, ops.zeros_like(outputs[:, 0]))
        output = ops.cast(output, self.compute_dtype)
        if not self.return_sequences:
            output = steps.last_of_sequence(output)
        if self.stateful:
            for kept, state in zip(self._kept.states, states, strict=True):
                kept.assign(state)
        return (output, *map(steps.last_of_sequence, states)) if self.return_state else output

    def _exchange(self) -> Exchange | None:
        """The exchange between replicas, or None if sequences are whole."""
        # Outside of replicas, for example where a model is built, sequences are whole.
        if not self.sequence_parallel or tf.distribute.in_cross_replica_context():
            return None
        exchange = Exchange(reverse=self.go_backwards)
        return exchange if exchange.replicas > 1 else None

    def _with_known_batch(
        self, sequences: Tensor, initial_state: Any, mask: Tensor, resets: Tensor
    ) -> Tensor:
        """Gives the sequences the batch size of the states or the flags, if that is known."""
        if self.stateful and initial_state is None and self.states is not None:
            count = self.states[0].shape[0]
            name = f"{self.name}_is_stateful_and_keeps_the_states_of_{count}_sequences"
            return inputs.with_checked_batch_of(sequences, self.states, name)
        name = "sequences_must_have_the_batch_size_of_initial_state_and_mask_and_resets"
        return inputs.with_checked_batch_of(
            sequences, [*tf.nest.flatten(initial_state), mask, resets], name
        )

    def _states_before(self, sequences: Tensor, initial_state: Any) -> list[Tensor]:
        name, states, hint = "initial_state", initial_state, ""
        if states is None and self.stateful:
            name, states = "the kept states of a stateful layer: states", self.states
            if states is None:
                raise ValueError(
                    f"stateful was set after {self.name} was built: pass stateful=True to the "
                    "constructor"
                )
            hint = (
                f": {self.name} is stateful and keeps the states of {states[0].shape[0]} "
                "sequences, so each batch must have as many"
            )
        if states is None:
            states = self.get_initial_state(ops.shape(sequences)[0])
        elif not isinstance(states, (list, tuple)):
            states = [states]
        states = inputs.states_of(
            name, sequences, states, self.cell.state_size, self.cell.state_dtype, hint
        )
        return [ops.cast(state, self.cell.state_dtype) for state in states]

    def get_config(self) -> dict[str, Any]:
        of_cell = self.cell.get_config()
        for name, parameter in inspect.signature(type(self.cell).__init__).parameters.items():
            variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if not variadic and name not in ("self", *of_cell):
                raise NotImplementedError(
                    f"{type(self.cell).__name__}.get_config must return {name!r}, an argument of "
                    "its constructor"
                )
        left_out = ("name", "build", *self.cell.own_arguments)
        return {
            **{name: value for name, value in of_cell.items() if name not in left_out},
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "algorithm": self.algorithm,
            "sequence_parallel": self.sequence_parallel,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LinearRecurrentLayer":
        return cls(**config)


def _in_order_of_processing(flags: StepFlags, exchange: Exchange | None) -> StepFlags:
    """The flags for steps that are processed from last to first.

    Backwards, the last step of a sequence is the first: the one before the next sequence's first.
    """
    mask, resets = (None if each is None else ops.flip(each, axis=1) for each in flags)
    if resets is not None:
        before = ops.zeros_like(resets[:, 0])
        if exchange is not None:
            last = ops.cast(resets[:, -1], "float32")
            before = ops.cast(exchange.from_previous(last, ops.zeros_like(last)), "bool")
        resets = ops.concatenate([before[:, None], resets[:, :-1]], axis=1)
    return StepFlags(mask, resets)


def _arguments_of(cell_class: type[LinearRecurrentCell]) -> set[str] | None:
    """The names of all arguments of a cell; None if its constructor takes untyped **kwargs."""
    names: set[str] = set()
    for cls in cell_class.__mro__[: cell_class.__mro__.index(LinearRecurrentCell) + 1]:
        if "__init__" not in vars(cls):
            continue
        try:  # Annotations may be strings.
            signature = inspect.signature(vars(cls)["__init__"], eval_str=True)
        except NameError:
            return None
        for name, parameter in signature.parameters.items():
            if get_origin(parameter.annotation) is Unpack:
                names |= set(get_args(parameter.annotation)[0].__annotations__)
            elif parameter.kind is parameter.VAR_KEYWORD:
                return None
            names.add(name)
    return names - {"self", "args", "kwargs"}
