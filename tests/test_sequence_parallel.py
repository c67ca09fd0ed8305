# SPDX-License-Identifier: MIT
"""Replicas that have a part of each sequence are as one device.

On GPUs where there are enough of them, or else on parts of one; without any, on logical CPUs.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python

import tf_plr
from tf_plr import distributed

SHARDS = """
import sys
import numpy as np, pytest, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 8)
import tf_plr
from tf_plr import distributed
from tf_plr.exchange import Exchange
rng = np.random.default_rng(0)

def draw(shape, dtype):
    values = rng.uniform(-1, 1, shape)
    return tf.constant(values + 1j * values[::-1] if "complex" in dtype else values, dtype)

def with_gradients(function, decays, impulses, state, d_states, **options):
    with tf.GradientTape() as tape:
        tape.watch([decays, impulses, state])
        states = function(decays, impulses, state, **options)
    by = tape.gradient(states, [decays, impulses, state], output_gradients=d_states)
    return [states, *by]

# One strategy a process: collectives of several get in each other's way.
replicas = int(sys.argv[1])
gpus = tf.config.list_physical_devices("GPU")
kind, reduction = "GPU" if gpus else "CPU", None
if gpus and len(gpus) < replicas:  # NCCL refuses parts of a GPU.
    parts = [tf.config.LogicalDeviceConfiguration(2048)] * replicas
    tf.config.set_visible_devices(gpus[:1], "GPU")
    tf.config.set_logical_device_configuration(gpus[0], parts)
    reduction = tf.distribute.ReductionToOneDevice()
strategy = tf.distribute.MirroredStrategy(
    [f"{kind}:{i}" for i in range(replicas)], cross_device_ops=reduction
)

def shards_of(arrays, axis):
    return [
        strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        for parts in (tf.split(a, replicas, axis) for a in arrays)
    ]
"""


@pytest.mark.parametrize("replicas", [2, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_a_sequence_over_several_replicas(replicas):
    """Values and gradients are those of one device."""
    run_python(
        SHARDS
        + """
for axis, reverse, dtype in (
    (0, False, "float32"), (1, True, "float64"), (-1, False, "complex64"), (1, True, "bfloat16"),
):
    shape = [3, 5, 4]
    shape[axis] = 6 * replicas
    decays, impulses, d_states = (draw(shape, dtype) for _ in range(3))
    state = draw(np.delete(shape, axis), dtype)
    options = {"axis": axis, "reverse": reverse}
    expected = with_gradients(
        tf_plr.linear_recurrence, decays, impulses, state, d_states, **options
    )

    @tf.function
    def run(*shards):
        def replica(decays, impulses, d_states):
            return with_gradients(
                distributed.linear_recurrence, decays, impulses, state, d_states, **options
            )
        return strategy.run(replica, args=shards)

    results = run(*shards_of([decays, impulses, d_states], axis))
    *along_time, by_state = map(strategy.experimental_local_results, results)
    actual = [tf.concat(parts, axis) for parts in along_time] + [tf.add_n(by_state)]
    roundoff = {"float64": 2e-15, "bfloat16": 0.05}.get(dtype, 2e-6)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        assert np.max(np.abs(a - e)) <= roundoff * np.max(np.abs(e)), dtype
""",
        replicas,
    )


def test_what_a_sequence_over_replicas_refuses():
    run_python(
        SHARDS
        + """
shards = shards_of([draw([4, 3], "float32")] * 2, 0)

# Under XLA. In replicas on CPUs TensorFlow refuses a collective's variables before that.
class NoReplicas:
    num_replicas_in_sync, replica_id_in_sync_group = 2, 0
    def all_reduce(self, operation, tensor):
        return tensor

exchange = Exchange(reverse=False)
exchange._context = NoReplicas()
tf.function(exchange.from_last)(tf.ones(3))
with pytest.raises(tf.errors.InvalidArgumentError, match="cannot_run_under_XLA"):
    tf.function(exchange.from_last, jit_compile=True)(tf.ones(3))

class NoNumbers(NoReplicas):
    replica_id_in_sync_group = None

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tf.distribute, "get_replica_context", NoNumbers)
    with pytest.raises(RuntimeError, match="knows which replica it traces"):
        Exchange(reverse=False)

@tf.function
def in_a_branch(*shards):
    def replica(decays, impulses):
        return tf.cond(
            decays[0, 0] > 0,
            lambda: distributed.linear_recurrence(decays, impulses), lambda: impulses,
        )
    return strategy.run(replica, args=shards)

with pytest.raises(RuntimeError, match="merge_call"):
    in_a_branch(*shards)

with strategy.scope(), pytest.raises(RuntimeError, match="by strategy.run"):
    distributed.linear_recurrence([0.5], [1.0])

@tf.function
def twice(*shards):
    def replica(decays, impulses):
        with tf.GradientTape() as outer:
            outer.watch(decays)
            with tf.GradientTape() as inner:
                inner.watch(decays)
                states = distributed.linear_recurrence(decays, impulses)
            first = inner.gradient(states, decays)
        return outer.gradient(first, decays)
    return strategy.run(replica, args=shards)

with pytest.raises(LookupError, match="first derivatives only"):
    twice(*shards)
assert distributed.linear_recurrence([0.5, 0.5], [1.0, 1.0])[1] == 1.5  # In no strategy.
""",
        2,
    )


LAYERS = """
import keras
tf.config.experimental.enable_tensor_float_32_execution(False)

def check(make, mask=None, initial=True, tolerance=2e-5, steps_each=5):
    batch, steps, features = 3, steps_each * replicas, 4
    keras.utils.set_random_seed(1)
    x = tf.constant(rng.normal(size=(batch, steps, features)), "float32")
    if mask is not None:  # What is masked may be anything.
        x = tf.where(mask[..., None], x, 7)
    with strategy.scope():
        layer = make()
        layer.build(x.shape)
    for variable in layer.trainable_variables:
        variable.assign_add(tf.constant(rng.normal(size=variable.shape), variable.dtype) / 4)
    probe = layer(x, mask=mask)
    probe = list(probe) if isinstance(probe, (list, tuple)) else [probe]
    states = [tf.constant(rng.normal(size=s.shape), s.dtype) for s in probe[1:]] if initial else []
    weights = [tf.constant(rng.normal(size=p.shape), "float32") for p in probe]

    def run(x, mask, weights, states):
        with tf.GradientTape() as tape:
            tape.watch([x, states])
            given = {"initial_state": states} if states else {}
            results = layer(x, mask=mask, training=True, **given)
            results = list(results) if isinstance(results, (list, tuple)) else [results]
            loss = tf.add_n([
                tf.reduce_sum(tf.cast(r, "float32") * w)
                for r, w in zip(results, weights, strict=True)
            ])
        by = tape.gradient(loss, [x, states, [v.value for v in layer.trainable_variables]])
        return results, by

    expected, (by_x, by_states, by_weights) = run(x, mask, weights, states)
    along_time = probe[0].shape[1:2] == (steps,) and probe[0].shape.rank == 3
    # Every replica has what is of the whole sequence, and adds its share to the loss.
    rest = [w / replicas for w in weights[1:]]
    # Each returns its own steps, from last to first.
    backwards = along_time and layer.go_backwards
    outputs_weights = [weights[0] / replicas] * replicas
    if along_time:
        outputs_weights = tf.split(weights[0], replicas, 1)[:: -1 if backwards else 1]

    def of_replica(parts):
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    given = [of_replica(tf.split(x, replicas, 1)), of_replica(outputs_weights)]
    if mask is not None:
        given.append(of_replica(tf.split(mask, replicas, 1)))

    @tf.function
    def on_replicas(x, w, mask=None):
        return strategy.run(lambda x, w, m: run(x, m, [w, *rest], states), args=(x, w, mask))

    local = strategy.experimental_local_results
    results, (shards_by_x, shards_by_states, shards_by_weights) = on_replicas(*given)

    def same(actual, expected):
        assert actual.dtype == expected.dtype
        expected = tf.cast(expected, "float64")
        error = np.max(np.abs(tf.cast(actual, "float64") - expected))
        assert error <= tolerance * np.max(np.abs(expected)), error

    outputs, *last = map(local, results)
    if along_time:
        same(tf.concat(outputs[:: -1 if backwards else 1], 1), expected[0])
    else:
        last = [outputs, *last]
        expected = [None, *expected]
    for parts, e in zip(last, expected[1:], strict=True):
        for part in parts:
            same(part, e)
    valid = tf.ones_like(x, tf.bool) if mask is None else tf.broadcast_to(mask[..., None], x.shape)
    same(tf.where(valid, tf.concat(local(shards_by_x), 1), 0), tf.where(valid, by_x, 0))
    for actual, e in zip(shards_by_states + shards_by_weights, by_states + by_weights, strict=True):
        same(tf.add_n(local(actual)), e)

lengths = tf.sequence_mask([5 * replicas, 5 * replicas - 6, 2], 5 * replicas)
holes = tf.constant(rng.uniform(size=(3, 5 * replicas)) < 0.6)
"""


@pytest.mark.parametrize("fused", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_layers_over_several_replicas(replicas, fused):
    """Outputs, states and gradients are those of one device."""
    run_python(
        SHARDS
        + LAYERS
        + """
last = {"sequence_parallel": True}
options = {**last, "return_sequences": True, "return_state": True}
check(lambda: tf_plr.GILRLSTM(4, **options))
check(lambda: tf_plr.GILRLSTM(4, **options), holes)
check(lambda: keras.layers.Bidirectional(tf_plr.GILRLSTM(4, **last)), initial=False)
check(lambda: tf_plr.GILR(4, **options, go_backwards=True), lengths)
check(lambda: tf_plr.SRU(4, **last), holes, initial=False)
check(lambda: tf_plr.QRNN(4, **options, kernel_size=3))
check(lambda: tf_plr.QRNN(4, **last, pooling="ifo", zero_output_for_mask=True), holes)

# The gradients of two losses, by one tape, of steps whose number only the graph knows.
for kind in (tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN):
    with strategy.scope():
        layer = kind(3, sequence_parallel=True, forget_bias=1.0)
        layer.build((None, None, 2))

    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            y = layer(x)
            losses = tf.reduce_sum(y), tf.reduce_sum(y**2)
        return [tape.gradient(loss, layer.cell.kernel.value) for loss in losses]

    @tf.function(input_signature=[tf.TensorSpec([None, None, 2])])
    def two_losses(x):
        return strategy.run(gradients, args=(x,))

    x = tf.constant(rng.normal(size=(2, 4, 2)), tf.float32)
    # Every replica has these steps, and the losses of the whole.
    of_whole = gradients(tf.concat([x] * replicas, 1))
    for parts, expected in zip(two_losses(x), of_whole, strict=True):
        actual = tf.add_n(strategy.experimental_local_results(parts)) / replicas
        assert np.max(np.abs(actual - expected)) <= 1e-5 * np.max(np.abs(expected))
    # Of no sequences, there is nothing to learn.
    for parts in two_losses(tf.ones((0, 4, 2))):
        assert all(np.all(part == 0) for part in strategy.experimental_local_results(parts))

# Dropout drops the same features in all replicas, and others the next time.
from tf_plr.layers.shard_steps import ShardSteps
with strategy.scope():
    seeds = keras.random.SeedGenerator(1)

@tf.function
def drop():
    def replica():
        steps = ShardSteps(Exchange(reverse=False), "auto")
        return steps.drop(tf.ones((2, 3, 64)), 0.5, seeds)
    return strategy.run(replica)

first, second = (np.stack(strategy.experimental_local_results(drop())) for _ in range(2))
assert set(np.unique(first)) == {0, 2} and np.any(first != second)
assert np.all(first == first[:1, :, :1])
""",
        replicas,
        TF_PLR_FUSED=str(int(fused)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layer", ["GILR", "GILRLSTM", "SRU", "QRNN"])
def test_all_of_a_layer_over_several_replicas(layer, fused):
    run_python(
        SHARDS
        + LAYERS
        + """
layer = getattr(tf_plr, sys.argv[2])
options = {"sequence_parallel": True, "return_sequences": True, "return_state": True}
special = {
    "GILRLSTM": [{"shift_surrogate": False}],
    "QRNN": [{"kernel_size": 3}, {"kernel_size": 1}, {"pooling": "f"}, {"pooling": "ifo"}],
    "SRU": [{"units": 5}],  # Whose inputs need a product.
}
for more in [{}, {"layer_normalization": True}, *special.get(sys.argv[2], [])]:
    more = {"units": 4, **options, **more}
    for some in ({}, {"go_backwards": True}, {"return_sequences": False}):
        check(lambda: layer(**{**more, **some}))
    for mask in (lengths, holes):
        check(lambda: layer(**more), mask)
        check(lambda: layer(**more, zero_output_for_mask=True), mask)
        check(lambda: layer(**{**more, "return_sequences": False}), mask, initial=False)
    for mask in (None, lengths, holes):
        check(lambda: layer(**more, dtype="mixed_bfloat16"), mask, tolerance=0.1)
""",
        2,
        layer,
        TF_PLR_FUSED=str(int(fused)),
    )


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("dtype", "forget_bias"),
    [("mixed_bfloat16", 8), pytest.param("mixed_float16", 9, marks=pytest.mark.slow)],
)
def test_long_memory_in_16_bits_over_several_replicas(dtype, forget_bias, fused):
    """Of thousands of steps, with decays that, rounded to 16 bits, would mostly be 1."""
    run_python(
        SHARDS
        + LAYERS
        + """
options = {"sequence_parallel": True, "return_state": True, "forget_bias": float(sys.argv[3])}
for layer in (tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN):
    check(lambda: layer(4, **options, dtype=sys.argv[2]), tolerance=2**-7, steps_each=2000)
""",
        2,
        dtype,
        forget_bias,
        TF_PLR_FUSED=str(int(fused)),
    )


def test_fit_with_a_sequence_over_replicas(tmp_path):
    """In ten lines from one device to two: the weights are the same afterwards."""
    run_python(
        SHARDS
        + """
import keras
tf.config.experimental.enable_tensor_float_32_execution(False)
x = rng.normal(size=(10, 12, 3)).astype("float32")
targets = {"sequence": x.mean((1, 2))[:, None], "step": np.cumsum(x, 1)[..., :1]}

def make(per_step):
    keras.utils.set_random_seed(0)
    layers = [tf_plr.GILRLSTM, tf_plr.QRNN]
    model = keras.Sequential([keras.Input((None, 3))])
    model.add(tf_plr.GILRLSTM(4, return_sequences=True, sequence_parallel=True))
    model.add(keras.layers.Bidirectional(
        tf_plr.QRNN(4, return_sequences=per_step, sequence_parallel=True)
    ))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model

for kind, y in targets.items():
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    alone = make(kind == "step")
    one = alone.fit(batches, epochs=2, verbose=0)
    with strategy.scope():
        model = make(kind == "step")
    two = model.fit(
        distributed.shard_sequences(batches, replicas, targets=kind), epochs=2, verbose=0
    )
    for a, b in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    model.save(sys.argv[2])
    loaded = keras.models.load_model(sys.argv[2])
    assert loaded.layers[0].sequence_parallel
    np.testing.assert_allclose(loaded(x), alone(x), atol=1e-4)
""",
        2,
        tmp_path / "model.keras",
    )


def test_targets_and_weights_of_steps_are_cut_as_sequences_are():
    x = np.arange(24.0).reshape(2, 4, 3)
    batch = {"x": x, "y": x[..., :1], "by step": x[..., 0], "by sequence": x[:, 0, 0]}
    for targets, weights, cut in (
        ("step", "by step", "x, y, by step"),
        ("step", "by sequence", "x, y"),
        ("sequence", "by sequence", "x"),
    ):
        names = ["x", "y", weights]
        batches = tf.data.Dataset.from_tensors(tuple(batch[name] for name in names))
        shards = next(iter(distributed.shard_sequences(batches, 2, targets=targets)))
        for name, actual in zip(names, shards, strict=True):
            whole = batch[name]
            halves = (whole[:, :2], whole[:, 2:]) if name in cut.split(", ") else (whole, whole)
            np.testing.assert_array_equal(actual, np.concatenate(halves))


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_keras_leaves_a_model_with_such_a_layer_uncompiled(sequence_parallel):
    """And says so; XLA refuses what replicas exchange."""
    layers = [keras.Input((None, 3)), tf_plr.GILR(2, sequence_parallel=sequence_parallel)]
    model = keras.Sequential(layers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.compile("sgd", "mse", jit_compile=True)
    assert model.jit_compile is not sequence_parallel
    assert any("jit_compile" in str(w.message) for w in caught) is sequence_parallel


def test_what_sequence_parallel_layers_refuse():
    run_python(
        SHARDS
        + """
for wrong in ({"stateful": True}, {"algorithm": "composed"}):
    with pytest.raises(ValueError, match="sequence_parallel must be False"):
        tf_plr.GILR(4, sequence_parallel=True, **wrong)
with pytest.raises(ValueError, match='algorithm must not be "composed"'):
    tf.function(lambda: strategy.run(
        lambda: distributed.linear_recurrence([0.5], [1.0], algorithm="composed")
    ))()
assert distributed.linear_recurrence([0.5], [1.0], algorithm="composed") == 1  # One device.
layer = tf_plr.QRNN(4, kernel_size=4, sequence_parallel=True)
x = tf.zeros((2, 4, 3))
layer(x)
with strategy.scope():
    layer(x)  # Whole sequences, as outside of the scope.
with pytest.raises(ValueError, match="at least kernel_size - 1 = 3 steps"):
    tf.function(lambda x: strategy.run(layer, (x,)))(*shards_of([x], 1))

batches = tf.data.Dataset.from_tensors((x, tf.zeros((2, 1)), tf.zeros((2,))))
for wrong, message in (
    ({"replicas": 0}, "at least 1"), ({"replicas": 3}, "multiple of the 3 replicas"),
    ({"replicas": 2, "targets": "last"}, '"sequence" or "step"'),
):
    with pytest.raises(ValueError, match=message):
        distributed.shard_sequences(batches, **wrong)
unknown = tf.data.Dataset.from_generator(
    lambda: iter([x]), output_signature=tf.TensorSpec([None, None, 3])
)
with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of the 3 replicas"):
    next(iter(distributed.shard_sequences(unknown, 3)))
x, y, w = next(iter(distributed.shard_sequences(batches, 2)))
assert (x.shape, y.shape, w.shape) == ((4, 2, 3), (4, 1), (4,))
""",
        2,
    )
