# SPDX-License-Identifier: MIT
"""What all cells and all layers share. A new layer is a new cell: see gilr.py for the shortest."""

import inspect

import keras
from keras import ops

from tf_plr.layers import checks
from tf_plr.layers.steps import AllSteps, OneStep
from tf_plr.recurrence import ALGORITHMS


class LinearRecurrentCell(keras.layers.Layer):
    """A cell whose state obeys a linear recurrence, so that all steps can be computed at once.

    Subclasses set the class attributes, create `kernel` and `bias` in `build` with `add_kernel`
    and `add_bias`, and define the model in `recur`.

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation of the impulses.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`.
        bias_initializer: Initializer of `bias`, but for the forget gate's. Default: `"zeros"`.
        forget_bias: Float, initial value of the forget gate's bias: the larger, the longer the
            memory at the start of training, about exp(forget_bias) steps.
        kernel_regularizer: Regularizer of `kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop: the same at all steps in
            a layer; in a cell on its own, others at each step.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain, before the bias is added.
        seed: Random seed for dropout.
    """

    blocks = ()  # Names of the blocks of `kernel` and `bias`, each `units` wide, in order.
    forget_block = None  # The block whose bias starts at `forget_bias`.

    def __init__(
        self,
        units,
        activation="tanh",
        *,
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        forget_bias=0.0,
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        layer_normalization=False,
        seed=None,
        **kwargs,
    ):
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                f"tf_plr runs on Keras' TensorFlow backend, but the backend is "
                f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before importing keras."
            )
        super().__init__(**kwargs)
        self.units = checks.positive_integer("units", units)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.forget_bias = checks.real("forget_bias", forget_bias)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = checks.rate("dropout", dropout)
        self.layer_normalization = layer_normalization
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.output_size = self.units

    @property
    def state_size(self):
        """Sizes of the state tensors [batch, size], in order."""
        return [self.units]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in self.state_size]

    def recur(self, steps, inputs, states, training):
        """Computes one step or all steps, as `steps` has it (see steps.py).

        Args:
            steps: A `OneStep` or `AllSteps`.
            inputs: [batch, input_dim] or [batch, time, input_dim].
            states: List of tensors [batch, size], sizes as in `state_size`.
            training: Whether to apply dropout.

        Returns:
            The output, [batch, units] or [batch, time, units], and the list of last states.
        """
        raise NotImplementedError

    def call(self, inputs, states, training=False):
        states = checks.states_of("states", inputs, states, self.state_size)
        return self.recur(OneStep(), inputs, states, training)

    # Helpers for `build`.

    def add_kernel(self, shape):
        return self.add_weight(
            shape=shape,
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def add_bias(self):
        """One vector with all blocks, or None."""
        if not self.use_bias:
            return None

        def initializer(shape, dtype=None, **kwargs):
            # Once for all blocks: an initializer gives equal shapes equal values.
            bias = ops.convert_to_tensor(self.bias_initializer(shape, dtype=dtype, **kwargs))
            blocks = dict(zip(self.blocks, ops.split(bias, len(self.blocks)), strict=True))
            if self.forget_block is not None:
                blocks[self.forget_block] = ops.full((self.units,), self.forget_bias, dtype=dtype)
            return ops.concatenate(list(blocks.values()))

        return self.add_weight(
            shape=(len(self.blocks) * self.units,),
            name="bias",
            initializer=initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )

    def add_normalization(self, blocks, name="normalization"):
        """A layer that normalises the product that makes `blocks`, or None."""
        if not self.layer_normalization:
            return None
        layer = keras.layers.LayerNormalization(
            epsilon=1e-3, center=False, name=name, dtype=self.dtype_policy
        )
        layer.build((None, blocks * self.units))
        return layer

    # Helpers for `recur`.

    def drop_inputs(self, steps, inputs, training):
        if training and self.dropout > 0:
            return steps.drop(inputs, self.dropout, self.seed_generator)
        return inputs

    def preactivations(self, product, normalization, bias):
        """Splits a product with the kernel into blocks, after normalisation and bias."""
        if normalization is not None:
            product = normalization(product)
        if bias is not None:
            product = ops.add(product, bias)
        return ops.split(product, product.shape[-1] // self.units, axis=-1)

    def get_config(self):
        config = {
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "forget_bias": self.forget_bias,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "dropout": self.dropout,
            "layer_normalization": self.layer_normalization,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}


class LinearRecurrentLayer(keras.layers.RNN):
    """Runs a cell over all steps of a sequence at once.

    Takes the arguments of its cell, then these. Subclasses set `cell_class`; everything else,
    states, `stateful`, `Bidirectional`, serialisation, is as in `keras.layers.RNN`.

    Args:
        return_sequences: Whether to return the output of every step, or of the last one only.
        return_state: Whether to return the last states too.
        go_backwards: Whether to process, and return, the steps from last to first.
        stateful: Whether a batch starts from the last states of the batch before.
        zero_output_for_mask: Whether masked steps give zeros, or repeat the last valid output. (To
            repeat is to multiply others by zero: with a mask, an output that is infinite or NaN
            makes all later ones of its feature NaN.)
        algorithm: See `tf_plr.linear_recurrence`.
    """

    cell_class = None

    def __init__(
        self,
        *args,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        zero_output_for_mask=False,
        algorithm="auto",
        **kwargs,
    ):
        if kwargs.get("unroll"):
            raise ValueError("unroll must be False: there is no loop over steps to unroll")
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {ALGORITHMS}, but is {algorithm!r}")
        cell_kwargs = {name: kwargs.pop(name) for name in self.cell_arguments if name in kwargs}
        shared_kwargs = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        super().__init__(
            self.cell_class(*args, **cell_kwargs, **shared_kwargs, name="cell"),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self.algorithm = algorithm
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    def __init_subclass__(cls, **kwargs):
        """Gives a layer the signature and the documentation of its cell beside its own."""
        super().__init_subclass__(**kwargs)
        if "cell_class" not in vars(cls):
            return
        of_cell = _parameters(cls.cell_class)
        of_layer = {**_parameters(LinearRecurrentLayer), **_parameters(keras.layers.Layer)}
        cls.cell_arguments = list(of_cell)

        if vars(cls).get("__doc__"):  # None under python -OO.
            sections = (_arguments_section(c) for c in (LinearRecurrentCell, LinearRecurrentLayer))
            cls.__doc__ = "\n".join([inspect.getdoc(cls), *sections])
        if "__init__" in vars(cls):
            return

        def __init__(self, *args, **kwargs):  # noqa: N807
            LinearRecurrentLayer.__init__(self, *args, **kwargs)

        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        __init__.__signature__ = inspect.Signature([this, *of_cell.values(), *of_layer.values()])
        cls.__init__ = __init__

    # The cell's arguments are the layer's too: layer.units, layer.dropout = 0.0, ...

    def __getattr__(self, name):
        if name in type(self).cell_arguments:
            return getattr(self.cell, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name, value):
        if name in type(self).cell_arguments:
            setattr(self.cell, name, value)
        else:
            super().__setattr__(name, value)

    def build(self, sequences_shape, initial_state_shape=None):
        self.input_spec = keras.layers.InputSpec(
            ndim=3, axes={-1: checks.features_of(sequences_shape)}
        )
        super().build(sequences_shape, initial_state_shape)
        self.state_size = list(self.cell.state_size)  # QRNN's depends on the input.

    def call(self, sequences, initial_state=None, mask=None, training=False):
        name = "initial_state"
        if initial_state is None and self.stateful:
            name, initial_state = "the kept states of a stateful layer: states", self.states
        if initial_state is not None:
            if not isinstance(initial_state, (list, tuple)):
                initial_state = [initial_state]
            sizes = self.cell.state_size
            initial_state = checks.states_of(name, sequences, initial_state, sizes)
        return super().call(sequences, initial_state, mask, training)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Returns (last output, outputs, last states); called by `keras.layers.RNN.call`."""
        mask = checks.mask_of(sequences, mask)
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        steps = AllSteps(self.algorithm, mask)
        outputs, states = self.cell.recur(steps, sequences, initial_state, training)
        if mask is not None:
            if self.zero_output_for_mask:
                outputs = ops.where(ops.expand_dims(mask, -1), outputs, 0)
            else:
                outputs = steps.hold(outputs, ops.zeros_like(outputs[:, 0]))
        return outputs[:, -1], outputs, states

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        of_cell = self.cell.get_config()
        config.update({name: of_cell[name] for name in self.cell_arguments})
        config["algorithm"] = self.algorithm
        return config

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _parameters(cls):
    """The named parameters of a constructor, with those that its **kwargs take to its bases."""
    parameters = {}
    for base in cls.__mro__:
        if base in (keras.layers.RNN, keras.layers.Layer) and cls is not base:
            break
        if "__init__" in vars(base):
            for parameter in [*inspect.signature(base.__init__).parameters.values()][1:]:
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    parameters.setdefault(parameter.name, parameter)
    return parameters


def _arguments_section(cls):
    return inspect.getdoc(cls).split("Args:\n")[1]
