# SPDX-License-Identifier: MIT
"""Training steps of every layer, through `fit` too, with and without XLA, and the cost of a mask.

    python benchmarks/layers.py [--shape BATCH STEPS INPUTS UNITS] [--output FILE]

The model is one layer and a Dense, in float32 (on a GPU, with TensorFloat-32 in the products). A
*step* is forward, gradient and Adam in one tf.function, on a batch that is already on the device:
the median over repeated runs of several steps. *fit* is what an epoch of model.fit takes for each
of its batches, of which there are so many that its start hardly counts. keras.layers.LSTM, with its
cuDNN kernel on a GPU, is timed beside, in the same process.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr

LAYERS = {
    "GILR": tf_plr.GILR,
    "LinearSurrogateLSTM": tf_plr.LinearSurrogateLSTM,
    "SRU": tf_plr.SRU,
    "QRNN": tf_plr.QRNN,
    "keras.layers.LSTM": keras.layers.LSTM,
}
RUNS = 5


def model_of(layer, shape):
    _, steps, inputs, units = shape
    return keras.Sequential([keras.Input((steps, inputs)), layer(units), keras.layers.Dense(1)])


def batch_of(shape):
    return tf.random.normal(shape[:3]), tf.random.normal([shape[0], 1])


def median_ms(run, seconds):
    """The median time of run(), of RUNS times as many calls as take a share of `seconds`."""
    run().numpy()
    start = time.perf_counter()
    run().numpy()
    calls = max(1, int(seconds / RUNS / (time.perf_counter() - start)))
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(calls):
            result = run()
        result.numpy()
        times.append((time.perf_counter() - start) / calls * 1e3)
    return float(np.median(times))


def step_ms(layer, shape, jit_compile, seconds):
    model, optimizer = model_of(layer, shape), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    x, y = batch_of(shape)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    first = float(step())
    result = median_ms(step, seconds)
    assert float(step()) < first, "the steps do not learn"
    return result


class EpochTimes(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


def fit_ms(layer, shape, jit_compile, step, seconds):
    """(ms for each step, whether Keras compiled the step)."""
    steps = max(10, int(seconds * 1e3 / step))
    dataset = tf.data.Dataset.from_tensors(batch_of(shape)).repeat(steps)
    if tf.config.list_physical_devices("GPU"):
        dataset = dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0"))
    model = model_of(layer, shape)
    model.compile("adam", "mse", jit_compile=jit_compile)
    times = EpochTimes()
    model.fit(dataset, epochs=2, verbose=0, callbacks=[times])
    return times.seconds[1] / steps * 1e3, bool(model.jit_compile)


def mask_ms(layer, shape, seconds):
    """(ms of an unmasked call that returns all outputs, ms of a masked one)."""
    batch, steps, inputs, units = shape
    x = tf.random.normal([batch, steps, inputs])
    mask = tf.sequence_mask(tf.random.uniform([batch], 1, steps, tf.int32), steps)
    instance = layer(units, return_sequences=True)
    call = tf.function(lambda mask: tf.reduce_sum(instance(x, mask=mask)[:, -1]))
    return tuple(median_ms(lambda m=m: call(m), seconds) for m in (None, mask))


def lengths_ms(lengths, shape, seconds):
    """Steps without XLA of single sequences, against their length."""
    rows = []
    print("\none sequence, ms a step:")
    for steps in lengths:
        of_one = (1, steps, *shape[2:])
        for name in ("LinearSurrogateLSTM", "keras.layers.LSTM"):
            row = {"layer": name, "steps": steps}
            try:
                row["step"] = step_ms(LAYERS[name], of_one, False, seconds)
                print(f"{name:>20} {steps:>9,} {row['step']:10.2f}", flush=True)
            except tf.errors.OpError as error:  # cuDNN's LSTM takes less than 65,536 steps.
                row["error"] = type(error).__name__
                print(f"{name:>20} {steps:>9,} {row['error']:>10}", flush=True)
            rows.append(row)
    return rows


def main():
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", type=int, nargs=4, default=(32, 2048, 64, 256) if on_gpu else (16, 784, 16, 64)
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number")
    parser.add_argument("--lengths", type=int, nargs="*", help="of sequences, for a second table")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    shape, seconds = arguments.shape, arguments.seconds
    result = {
        "environment": environment(arguments.commit),
        "shape": {"batch": shape[0], "steps": shape[1], "inputs": shape[2], "units": shape[3]},
        "dtype": "float32",
        "rows": [],
    }
    print(json.dumps(result["environment"]))
    print("batch {} x {} steps, {} inputs, {} units; ms".format(*shape))
    print(f"{'':>20} {'step':>9} {'XLA':>9} {'fit':>9} {'call':>9} {'masked':>9}")
    for name, layer in LAYERS.items():
        row = {"layer": name, "step": step_ms(layer, shape, False, seconds)}
        try:
            row["step_xla"] = step_ms(layer, shape, True, seconds)
        except tf.errors.OpError as error:  # cuDNN's LSTM.
            row["step_xla_error"] = type(error).__name__
        row["fit"], row["fit_xla"] = fit_ms(layer, shape, "auto", row["step"], seconds)
        row["call"], row["masked_call"] = mask_ms(layer, shape, seconds)
        result["rows"].append(row)
        numbers = [row.get(k) for k in ("step", "step_xla", "fit", "call", "masked_call")]
        print(
            f"{name:>20}", *(f"{'-':>9}" if n is None else f"{n:9.2f}" for n in numbers), flush=True
        )
    if arguments.lengths:
        result["lengths"] = lengths_ms(arguments.lengths, shape, seconds)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
