# SPDX-License-Identifier: MIT
"""tf.distribute: replicas with a batch each, or with a part of a sequence each, are as one."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import run_python

MODEL = """
import os, sys
import keras, numpy as np, tensorflow as tf, tf_plr
tf.config.experimental.enable_tensor_float_32_execution(False)
x = np.random.default_rng(0).normal(size=(16, 12, 3)).astype("float32")
y = x.mean((1, 2))[:, None]

def make(policy="float32"):
    keras.utils.set_random_seed(0)
    layers = [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN]
    model = keras.Sequential([keras.Input((None, 3))])
    for layer in layers:
        model.add(layer(4, return_sequences=layer is not layers[-1], dtype=policy))
    model.add(keras.layers.Dense(1, dtype="float32"))
    return model
"""

MIRRORED = """
device = tf.config.list_physical_devices()[-1]  # A GPU, or else the CPU.
kind = device.device_type
halves = [tf.config.LogicalDeviceConfiguration(*([2048] if kind == "GPU" else [])) for _ in "ab"]
tf.config.set_logical_device_configuration(device, halves)

def strategy_of(devices):
    return tf.distribute.MirroredStrategy(
        [f"/{kind}:{i}" for i in range(devices)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
"""


def test_fit_with_two_replicas(tmp_path):
    run_python(
        MODEL
        + MIRRORED
        + """
for policy, tolerance in (("float32", 1e-4), ("mixed_bfloat16", 0.05)):
    losses = []
    for devices in (1, 2):
        strategy = strategy_of(devices)
        assert strategy.num_replicas_in_sync == devices
        with strategy.scope():
            model = make(policy)
            model.compile(keras.optimizers.SGD(0.1), "mse")
        fit = model.fit(x, y, batch_size=8, epochs=3, verbose=0, shuffle=False)
        losses.append(fit.history["loss"])
    np.testing.assert_allclose(*losses, rtol=tolerance)

# The last batch is one sequence, so that one of two replicas has none.
model.fit(x[:9], y[:9], batch_size=8, verbose=0, shuffle=False)
assert all(np.all(np.isfinite(w)) for w in model.get_weights())

# What was saved under a strategy is a model like any other.
model.save(sys.argv[1])
alone = keras.models.load_model(sys.argv[1])
np.testing.assert_allclose(alone(x[:4]), model(x[:4]), atol=1e-6)
""",
        tmp_path / "model.keras",
    )


def test_two_workers_learn_as_one(tmp_path):
    """MultiWorkerMirroredStrategy, two processes; Keras' own fit is not made for it."""
    program = (
        MODEL
        + """
several = "TF_CONFIG" in os.environ
strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()
assert strategy.num_replicas_in_sync == 1 + several
with strategy.scope():
    model = make()
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
# Of the last batch of one, a worker has nothing.
batches = tf.data.Dataset.from_tensor_slices((x[:9], y[:9])).batch(8).with_options(options)
batches = strategy.experimental_distribute_dataset(batches)

@tf.function
def step(x, y):
    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / 8
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss
    return strategy.reduce("SUM", strategy.run(replica, args=(x, y)), axis=None)

for _ in range(3):
    for batch in batches:
        step(*batch)
np.savez(sys.argv[1], *model.get_weights())
"""
    )
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    workers = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()

    def start(name, **environment):
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        return subprocess.Popen(command, env={**os.environ, **environment})

    def config(index):
        task = {"type": "worker", "index": index}
        return json.dumps({"cluster": {"worker": workers}, "task": task})

    names = ["alone.npz", "0.npz", "1.npz"]
    processes = [start(names[0])] + [start(names[1 + i], TF_CONFIG=config(i)) for i in range(2)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    alone, *others = (np.load(tmp_path / name) for name in names)
    for other in others:
        for name in alone.files:
            np.testing.assert_allclose(other[name], alone[name], atol=1e-5)


SHARDS = """
import sys
import numpy as np, pytest, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 8)
import tf_plr
from tf_plr import distributed
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
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])

def shards_of(arrays, axis):
    return [
        strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        for parts in (tf.split(a, replicas, axis) for a in arrays)
    ]
"""


@pytest.mark.parametrize("replicas", [2, pytest.param(8, marks=pytest.mark.slow)])
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

compiled = tf.function(distributed.linear_recurrence, jit_compile=True)

@tf.function
def run_compiled(*shards):
    return strategy.run(compiled, args=shards)

# On CPUs, TensorFlow refuses the collective's variables first.
with pytest.raises(tf.errors.InvalidArgumentError, match="cannot_run_under_XLA|different_device"):
    run_compiled(*shards)

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
