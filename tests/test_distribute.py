# SPDX-License-Identifier: MIT
"""tf.distribute: replicas, and workers, that have a batch each are as one."""

import json
import os
import socket
import subprocess
import sys
import time

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
for policy, tolerance in (("mixed_bfloat16", 0.05), ("float32", 1e-4)):
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

# States are kept for the sequences of each replica.
losses = []
for devices in (1, 2):
    keras.utils.set_random_seed(0)
    with strategy_of(devices).scope():
        layer = tf_plr.GILRLSTM(4, stateful=True)
        stateful = keras.Sequential(
            [keras.Input((None, 3), batch_size=8 // devices), layer, keras.layers.Dense(1)]
        )
        stateful.compile(keras.optimizers.SGD(0.1), "mse")
    fit = stateful.fit(x[:8], y[:8], batch_size=8, epochs=3, verbose=0, shuffle=False)
    losses.append(fit.history["loss"])
np.testing.assert_allclose(*losses, rtol=1e-4)

# The last batch is one sequence, so that one of two replicas has none: Keras halves the loss.
alone = make(policy)
alone.set_weights(model.get_weights())
alone.compile(keras.optimizers.SGD(0.1), "mse")
alone.fit(x[:8], y[:8], batch_size=8, verbose=0)
alone.optimizer.learning_rate = 0.05
alone.fit(x[8:9], y[8:9], verbose=0)
model.fit(x[:9], y[:9], batch_size=8, verbose=0, shuffle=False)
for actual, expected in zip(model.get_weights(), alone.get_weights(), strict=True):
    np.testing.assert_allclose(actual, expected, atol=1e-5)

# What was saved under a strategy is a model like any other.
model.save(sys.argv[1])
alone = keras.models.load_model(sys.argv[1])
np.testing.assert_allclose(alone(x[:4]), model(x[:4]), atol=1e-6)
""",
        tmp_path / "model.keras",
    )


def start_worker(program, path, **environment):
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.Popen(command, env={**os.environ, **environment})


def two_workers(program, folder):
    """Processes of a cluster, which write to 0.npz and 1.npz."""
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    workers = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    configs = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
    return [
        start_worker(program, folder / f"{i}.npz", TF_CONFIG=config)
        for i, config in enumerate(configs)
    ]


def test_two_workers_learn_as_one(tmp_path):
    """MultiWorkerMirroredStrategy, two processes; Keras' own fit is not made for it.

    With sequences of their own, and with a part of each.
    """
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

# A part of each sequence in each worker.
with strategy.scope():
    chain = keras.Sequential([
        keras.Input((None, 3)),
        tf_plr.GILRLSTM(4, return_sequences=True, sequence_parallel=True),
        keras.layers.Bidirectional(tf_plr.QRNN(4, sequence_parallel=True)),
        keras.layers.Dense(1),
    ])
    sgd = keras.optimizers.SGD(0.1)
    sgd.build(chain.trainable_variables)
replicas = strategy.num_replicas_in_sync
parts = tf.split(tf.constant(x), replicas, axis=1)
parts = strategy.experimental_distribute_values_from_function(
    lambda context: parts[context.replica_id_in_sync_group]
)

@tf.function
def chain_step():
    def replica(part):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((chain(part, training=True) - y) ** 2) / replicas
        gradients = tape.gradient(loss, chain.trainable_variables)
        sgd.apply(gradients, chain.trainable_variables)
    strategy.run(replica, args=(parts,))

for _ in range(3):
    chain_step()
np.savez(sys.argv[1], *model.get_weights(), *chain.get_weights())
"""
    )
    alone, *workers = [
        start_worker(program, tmp_path / "alone.npz"),
        *two_workers(program, tmp_path),
    ]
    try:
        assert [process.wait(timeout=300) for process in (alone, *workers)] == [0, 0, 0]
    finally:
        for process in (alone, *workers):
            process.kill()
    names = ["alone.npz", "0.npz", "1.npz"]
    alone, *others = (np.load(tmp_path / name) for name in names)
    for other in others:
        for name in alone.files:
            np.testing.assert_allclose(other[name], alone[name], atol=1e-5)


@pytest.mark.slow
def test_a_lost_worker_is_an_error(tmp_path):
    program = """
import sys
from pathlib import Path
import tensorflow as tf
from tf_plr import distributed
strategy = tf.distribute.MultiWorkerMirroredStrategy()
steps = tf.random.uniform([2, 100, 4])
run = tf.function(lambda: strategy.run(lambda: distributed.linear_recurrence(steps, steps, axis=1)))
try:
    while True:
        run()
        Path(sys.argv[1]).touch()
except tf.errors.UnavailableError:
    sys.exit(7)
"""
    first, second = two_workers(program, tmp_path)
    try:
        for _ in range(300):
            if (tmp_path / "1.npz").exists():
                break
            time.sleep(1)
        second.kill()
        assert first.wait(timeout=300) == 7
    finally:
        first.kill()
