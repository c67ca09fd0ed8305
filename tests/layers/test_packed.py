# SPDX-License-Identifier: MIT
"""Packed sequences: several in one row, where `resets` says that a new one begins.

The law is that nothing passes from one sequence to the next: a row gives what its sequences give
one by one.
"""

import sys
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from support import ROOT, call

import tf_plr
from tf_plr.layers import LinearRecurrentCell, LinearRecurrentLayer

sys.path.append(str(ROOT / "examples"))
import itertools

from own_layer import MinGRU


class OfParts(LinearRecurrentCell):
    """A cell that no fused op computes: a recurrence, its previous states, and a convolution."""

    def build(self, input_shape):
        self.features = input_shape[-1]
        self.kernel = self.add_kernel((3, input_shape[-1], 2 * self.units))

    @property
    def state_size(self):
        return [self.units, 2 * self.features]

    def recur(self, steps, inputs, states, training):
        products, history = steps.convolve(
            inputs, ops.cast(self.kernel, inputs.dtype), ops.cast(states[1], inputs.dtype)
        )
        decays, impulses = ops.split(products, 2, axis=-1)
        hidden, last = steps.recur(ops.sigmoid(decays), impulses, states[0])
        output = ops.tanh(ops.cast(decays, hidden.dtype)) * steps.previous(hidden, states[0])
        return output + hidden, [last, history]


class Rotation(LinearRecurrentCell):
    """Complex states, and decays that are the same at all steps."""

    state_dtype = "complex64"

    def build(self, input_shape):
        self.kernel = self.add_kernel((input_shape[-1], self.units))

    def recur(self, steps, inputs, states, training):
        angles = tf.range(self.units, dtype="float32")
        decays = tf.complex(0.9 * tf.cos(angles), 0.9 * tf.sin(angles))
        impulses = tf.complex(self.product(inputs, self.kernel), 0.0)
        hidden, last = steps.recur(decays, impulses, states[0])
        return tf.math.real(hidden) + tf.math.imag(hidden), [last]


class OfPartsLayer(LinearRecurrentLayer):
    cell_class = OfParts


class RotationLayer(LinearRecurrentLayer):
    cell_class = Rotation


def layer_of(name, **options):
    own = {"MinGRU": MinGRU, "OfParts": OfPartsLayer, "Rotation": RotationLayer}
    return own.get(name, getattr(tf_plr, name, None))(5, **options)


class Problem(NamedTuple):
    layer: str
    options: dict
    x: np.ndarray
    resets: np.ndarray
    mask: np.ndarray | None
    starts_from: list[np.ndarray] | None

    def __str__(self):
        flags = f"{self.resets.sum()} resets{', masked' if self.mask is not None else ''}"
        start = ", initial state" if self.starts_from is not None else ""
        return f"{self.layer} {self.x.shape} {flags}{start} {self.options}"


OPTIONS = {
    "GILR": ({}, {"activation": "relu"}, {"layer_normalization": True}),
    "GILRLSTM": ({}, {"shift_surrogate": False}, {"layer_normalization": True}),
    "SRU": ({}, {"activation": "tanh"}),
    "QRNN": ({}, {"kernel_size": 1}, {"kernel_size": 4}, {"pooling": "f"}, {"pooling": "ifo"}),
    "MinGRU": ({},),
    "OfParts": ({},),
    "Rotation": ({},),
}


def draw(rng, steps=None):
    """A random problem. At least one sequence ends before its row does, if there are two steps."""
    name = str(rng.choice(list(OPTIONS)))
    options = dict(OPTIONS[name][rng.integers(len(OPTIONS[name]))])
    options["go_backwards"] = bool(rng.random() < 0.3)
    options["return_sequences"] = bool(rng.random() < 0.7)
    options["zero_output_for_mask"] = bool(rng.random() < 0.3)
    options["algorithm"] = str(rng.choice(["auto", "parallel", "serial", "composed"]))
    options["dtype"] = str(rng.choice(["float32", "float32", "mixed_bfloat16", "float64"]))
    if name == "Rotation":
        options["dtype"] = "float32"
    batch, features = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    steps = int(np.exp(rng.uniform(0, np.log(300)))) if steps is None else steps
    x = rng.normal(size=(batch, steps, features))
    resets = rng.random((batch, steps)) < rng.choice([0.01, 0.1, 0.5])
    if steps > 1:
        resets[0, rng.integers(1, steps)] = True
    mask = rng.random((batch, steps)) < 0.7 if rng.random() < 0.4 else None
    if rng.random() < 0.5:
        return Problem(name, options, x, resets, mask, None)
    layer = layer_of(name, **options)
    layer.build((batch, steps, features))
    sizes = layer.cell.state_size
    return Problem(name, options, x, resets, mask, [rng.normal(size=(batch, n)) for n in sizes])


def sequences_of(resets):
    """The slices of one row's sequences."""
    starts = [0, *(1 + np.flatnonzero(resets[1:])), len(resets)]
    return [slice(a, b) for a, b in itertools.pairwise(starts)]


def run(layer, x, **arguments):
    """(outputs, states, gradients with respect to x and the initial states) as NumPy arrays."""
    x = tf.convert_to_tensor(x)
    start = arguments.pop("initial_state", None)
    start = None if start is None else [tf.convert_to_tensor(state) for state in start]
    with tf.GradientTape() as tape:
        tape.watch([x, start or []])
        output, *states = layer(x, initial_state=start, **arguments)
        # A weighted sum: the weights of an output do not depend on where it lies in the row.
        weighed = tf.reduce_sum(tf.cast(output, tf.float64) * WEIGHTS)
        weighed += sum(tf.reduce_sum(tf.cast(tf.math.real(s), tf.float64)) for s in states)
    gradients = tape.gradient(weighed, [x, *(start or [])], unconnected_gradients="zero")
    as_arrays = lambda tensors: [np.asarray(tf.cast(t, wide_of(t))) for t in tensors]  # noqa: E731
    return as_arrays([output])[0], as_arrays(states), as_arrays(gradients)


WEIGHTS = np.linspace(-1, 2, 5)


def wide_of(tensor):
    return tf.complex128 if tensor.dtype.is_complex else tf.float64


def one_by_one(problem, layer):
    """What `run` returns for the packed rows, computed sequence by sequence."""
    x, backwards = problem.x, problem.options["go_backwards"]
    every_step = problem.options["return_sequences"]
    rows, all_states, d_x, all_d_start = [], [], np.zeros(x.shape), []
    for row in range(len(x)):
        pieces = sequences_of(problem.resets[row])[:: -1 if backwards else 1]
        outputs, d_start = [], None
        for number, piece in enumerate(pieces):
            first, last = number == 0, piece == pieces[-1]
            start = None
            if problem.starts_from is not None:
                keeps = first and (backwards or not problem.resets[row, 0])
                start = [keeps * state[row : row + 1] for state in problem.starts_from]
            mask = None if problem.mask is None else problem.mask[row : row + 1, piece]
            output, states, gradients = run(
                PieceOfRow(layer, counts=every_step, is_last=last), x[row : row + 1, piece],
                initial_state=start, mask=mask,
            )  # fmt: skip
            outputs.append(output[0])
            d_x[row, piece] = gradients[0][0]
            if first and start is not None:
                d_start = [keeps * g for g in gradients[1:]]
        rows.append(np.concatenate(outputs) if every_step else outputs[-1])
        all_states.append(states)
        all_d_start.append(d_start)
    join = lambda parts: [np.concatenate(part) for part in zip(*parts, strict=True)]  # noqa: E731
    d_start = [] if problem.starts_from is None else join(all_d_start)
    return np.stack(rows), join(all_states), [d_x, *d_start]


class PieceOfRow:
    """A layer for one of a row's sequences. Only the last one's states, and last output, count."""

    def __init__(self, layer, *, counts, is_last):
        self.layer, self.counts, self.is_last = layer, counts, is_last

    def __call__(self, x, **arguments):
        output, *states = self.layer(x, **arguments)
        if not self.is_last:
            states = [tf.stop_gradient(state) for state in states]
            output = output if self.counts else tf.stop_gradient(output)
        return output, *states


ROUNDING = {"float64": 1e-11, "float32": 2e-5, "mixed_bfloat16": 0.05}


def check(problem, mode="eager"):
    layer = layer_of(problem.layer, return_state=True, **problem.options)
    law = one_by_one(problem, layer)
    x, start = problem.x, problem.starts_from

    def packed(x, resets):
        x = tf.ensure_shape(x, [None, None, problem.x.shape[-1]])
        return run(layer, x, resets=resets, mask=problem.mask, initial_state=start)

    if mode == "eager":
        actual = packed(tf.constant(x), tf.constant(problem.resets))
    else:
        actual = call(lambda x, r: layer(x, resets=r, mask=problem.mask, initial_state=start),
                      [tf.constant(x), tf.constant(problem.resets)], mode)  # fmt: skip
        actual = (actual[0], actual[1:], None)
    compare(problem, actual, law)


def compare(problem, actual, law):
    tolerance = ROUNDING[problem.options["dtype"]]
    for name, a, e in zip(("outputs", "states", "gradients"), actual, law, strict=True):
        if a is None:
            continue
        a, e = ([each] if name == "outputs" else each for each in (a, e))
        for one, expected in zip(a, e, strict=True):
            scale = 1 + np.abs(expected).max(initial=0)
            np.testing.assert_allclose(one, expected, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("number", range(120))
def test_a_packed_row_gives_what_its_sequences_give_one_by_one(number):
    check(draw(np.random.default_rng([7, number])))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("number", range(60))
def test_no_other_sequence_feels_nan_or_inf(number, poison):
    rng = np.random.default_rng([9, number])
    problem = draw(rng)
    row = 0
    pieces = sequences_of(problem.resets[row])
    piece = pieces[rng.integers(len(pieces))]
    layer = layer_of(problem.layer, **problem.options)
    clean = PackedRun(layer, problem, problem.x)
    x = problem.x.copy()
    x[row, piece] = poison
    poisoned = PackedRun(layer, problem, x)
    others = np.ones(problem.resets.shape, bool)
    others[row, piece] = False
    np.testing.assert_array_equal(poisoned.d_x[others], clean.d_x[others])
    if problem.options["return_sequences"]:
        a, b = (each.outputs for each in (poisoned, clean))
        if problem.options["go_backwards"]:
            a, b = a[:, ::-1], b[:, ::-1]
        np.testing.assert_array_equal(a[others], b[others])
    else:
        last = pieces[0] if problem.options["go_backwards"] else pieces[-1]
        same = slice(row + (piece == last), None)
        np.testing.assert_array_equal(poisoned.outputs[same], clean.outputs[same])


class PackedRun:
    def __init__(self, layer, problem, x):
        x, start = tf.constant(x), problem.starts_from
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, mask=problem.mask, resets=problem.resets, initial_state=start)
            loss = tf.reduce_sum(tf.cast(y, tf.float64) ** 2)
        self.outputs = np.asarray(tf.cast(y, tf.float64))
        self.d_x = np.asarray(tape.gradient(loss, x))


@pytest.mark.parametrize("number", range(10))
def test_in_graphs_and_under_xla(number, mode):
    problem = draw(np.random.default_rng([8, number]), steps=17)
    if mode == "xla" and problem.options["algorithm"] == "composed":
        problem.options["algorithm"] = "auto"
    check(problem, mode)


def packed_arrays(rng):
    resets = np.zeros((3, 12), bool)
    resets[0, [0, 5]] = resets[1, [3, 11]] = True
    return rng.normal(size=(3, 12, 4)).astype("float32"), resets


def test_a_reset_at_the_first_step_discards_the_kept_states(layer, rng):
    x, resets = packed_arrays(rng)
    made = layer(5, stateful=True)
    made(x)
    after = made(x, resets=resets)  # Row 0 resets first, row 2 goes on from what was kept.
    fresh = layer(5)
    fresh.build(x.shape)
    fresh.set_weights(made.get_weights())
    np.testing.assert_allclose(after[0], fresh(x, resets=resets)[0], atol=1e-6)
    np.testing.assert_allclose(after[2], fresh(np.concatenate([x, x], 1))[2], atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_bidirectional(layer, rng, masked, return_sequences):
    x, resets = packed_arrays(rng)
    mask = rng.random(resets.shape) < 0.7 if masked else None
    made = tf_plr.layers.Bidirectional(layer(5, return_sequences=return_sequences))
    actual = made(x, mask=mask, resets=resets)
    for row in range(3):
        results = []
        for piece in sequences_of(resets[row]):
            of_piece = None if mask is None else mask[row : row + 1, piece]
            results.append(made(x[row : row + 1, piece], mask=of_piece))
        if return_sequences:
            np.testing.assert_allclose(actual[row], np.concatenate(results, 1)[0], atol=1e-6)
        else:  # The forward layer ends with the last sequence, the backward one with the first.
            law = np.concatenate([results[-1][0, :5], results[0][0, 5:]])
            np.testing.assert_allclose(actual[row], law, atol=1e-6)
    again = keras.layers.deserialize(keras.layers.serialize(made))
    again.build(x.shape)
    again.set_weights(made.get_weights())
    np.testing.assert_array_equal(again(x, mask=mask, resets=resets), actual)


def test_bidirectional_without_resets_is_keras_own(layer, rng):
    x, _ = packed_arrays(rng)
    ours, theirs = (
        kind(layer(5, return_state=True), merge_mode="sum")
        for kind in (tf_plr.layers.Bidirectional, keras.layers.Bidirectional)
    )
    for made in (ours, theirs):
        made.build(x.shape)
    theirs.set_weights(ours.get_weights())
    for a, b in zip(ours(x), theirs(x), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError, match="resets need layers of tf_plr, but forward_lstm"):
        lstm = keras.layers.LSTM(3, name="lstm")
        tf_plr.layers.Bidirectional(lstm)(x, resets=np.zeros((3, 12), bool))


def test_a_functional_model_trains_on_packed_rows_and_is_saved(layer, rng, tmp_path):
    x, resets = packed_arrays(rng)
    sequences = keras.Input((None, 4), name="sequences")
    starts = keras.Input((None,), dtype="bool", name="resets")
    hidden = tf_plr.layers.Bidirectional(layer(4, return_sequences=True))(sequences, resets=starts)
    outputs = layer(2, return_sequences=True)(hidden, resets=starts)
    model = keras.Model({"sequences": sequences, "resets": starts}, outputs)
    model.compile("adam", "mse")
    given = {"sequences": x, "resets": resets}
    model.fit(given, np.zeros((3, 12, 2)), verbose=0)
    expected = model.predict(given, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(given, verbose=0), expected, atol=1e-6)
    model.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(served.serve(given), expected, atol=1e-6)


def test_vectorized_map_and_jacobians(layer, rng):
    x, resets = packed_arrays(rng)
    made = layer(3, return_sequences=True)
    made.build(x.shape)
    every, flags = tf.stack([x, 2 * x]), tf.stack([resets, ~resets])
    mapped = tf.vectorized_map(lambda each: made(each[0], resets=each[1]), (every, flags))
    for i in range(2):
        np.testing.assert_allclose(mapped[i], made(every[i], resets=flags[i]), atol=1e-6)
    x = tf.constant(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = tf.reduce_sum(made(x, resets=resets), axis=2)[1]
    fast, slow = (tape.jacobian(y, x, experimental_use_pfor=pfor) for pfor in (True, False))
    np.testing.assert_allclose(fast, slow, atol=1e-6)
    assert np.all(fast[3:11, 1, :3] == 0) and np.any(fast[3:11, 1, 3:] != 0)


@pytest.mark.parametrize(
    ("algorithm", "sequence"),
    # With "composed", NaN of a later sequence reaches second derivatives: see docs/sequences.md.
    [("auto", 0), ("auto", 1), ("composed", 0)],
)
def test_second_derivatives_feel_no_nan_of_another_sequence(layer, rng, algorithm, sequence):
    x = rng.normal(size=(1, 4, 3)).astype("float32")
    x[0, 1 + 2 * sequence] = np.nan
    x = tf.constant(x)
    resets = tf.constant([[True, False, True, False]])
    made = layer(2, return_sequences=True, algorithm=algorithm)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(made(x, resets=resets) ** 2)
        total = tf.reduce_sum(inner.gradient(loss, x) ** 2, axis=2)[0]
        other = tf.reduce_sum(total[2:] if sequence == 0 else total[:2])
    second = outer.gradient(other, x)
    others = second[0, 2:] if sequence == 0 else second[0, :2]
    assert np.isfinite(others).all() and np.any(others != 0)
