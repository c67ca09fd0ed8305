# SPDX-License-Identifier: MIT
"""Two layers of each kind: training steps against their floor, and against keras' LSTM and GRU.

    python benchmarks/layers.py [--units 256] [--shapes BATCHxSTEPS ...] [--output FILE]

The model has two recurrent layers, the first of which returns sequences, and a Dense of 2, on 32
inputs. A *step* is forward pass, gradient and Adam in one tf.function, on a batch that is already
on the device. Its time is the median over repeated runs of several steps. The *floor* of a step is
the time of the layers' matrix products, in the same dtype (float32 with TensorFloat-32 if the GPU
has it), plus the time to move the arrays that gates and recurrences must move, at the rate of an
add of two arrays. Both are timed in this process. *Adam of it* is the optimizer's share of a step
without XLA. *fit* is the time of an epoch of model.fit per batch; an epoch has so many batches that
its start hardly counts. Further tables show inference, one step of decoding, a masked step, and
what a step costs with other arguments than the defaults.
"""

import argparse
import functools
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples"))
from own_layer import MinGRU

INPUTS, OUTPUTS, RUNS = 32, 2, 5


def qrnn10(units, **options):
    return tf_plr.QRNN(units, kernel_size=10, **options)


LAYERS = {
    "GILR": tf_plr.GILR,
    "LinearSurrogateLSTM": tf_plr.LinearSurrogateLSTM,
    "SRU": tf_plr.SRU,
    "QRNN(2)": tf_plr.QRNN,
    "QRNN(10)": qrnn10,
    "keras LSTM": keras.layers.LSTM,
    "keras GRU": keras.layers.GRU,
}


def packed(layer):
    """A layer of rows that hold sequences of 500 steps each."""

    class Packed(layer):
        def build(self, sequences_shape):
            super().build(sequences_shape)

        def compute_output_shape(self, sequences_shape):
            return super().compute_output_shape(sequences_shape)

        def call(self, sequences, training=False):
            starts = tf.range(tf.shape(sequences)[1]) % 500 == 0
            resets = tf.tile(starts[None], [tf.shape(sequences)[0], 1])
            return super().call(sequences, training=training, resets=resets)

    return Packed


class Mish(tf_plr.GILR):
    """A layer that no fused op computes."""

    def __init__(self, units, **kwargs):
        super().__init__(units, activation="mish", **kwargs)


# {name: (the layer it is compared with, the layer)}: steps with other arguments, and of own layers.
VARIANTS = {
    "GILR relu": ("GILR", functools.partial(tf_plr.GILR, activation="relu")),
    "GILR gelu": ("GILR", functools.partial(tf_plr.GILR, activation="gelu")),
    "MinGRU, an own layer": ("GILR", MinGRU),
    "SRU tanh": ("SRU", functools.partial(tf_plr.SRU, activation="tanh")),
    "QRNN(2) ifo": ("QRNN(2)", functools.partial(tf_plr.QRNN, pooling="ifo")),
    "LS-LSTM silu": ("LinearSurrogateLSTM", functools.partial(tf_plr.GILRLSTM, activation="silu")),
    "LS-LSTM hard gates": (
        "LinearSurrogateLSTM",
        functools.partial(tf_plr.GILRLSTM, recurrent_activation="hard_sigmoid"),
    ),
    "LS-LSTM dropout": ("LinearSurrogateLSTM", functools.partial(tf_plr.GILRLSTM, dropout=0.2)),
    "LS-LSTM normalised": (
        "LinearSurrogateLSTM",
        functools.partial(tf_plr.GILRLSTM, layer_normalization=True),
    ),
    "GILR packed": ("GILR", packed(tf_plr.GILR)),
    "LS-LSTM packed": ("LinearSurrogateLSTM", packed(tf_plr.GILRLSTM)),
    "SRU packed": ("SRU", packed(tf_plr.SRU)),
    "QRNN(2) packed": ("QRNN(2)", packed(tf_plr.QRNN)),
    "MinGRU packed": ("MinGRU, an own layer", packed(MinGRU)),
    "GILR mish, not fused": ("GILR", Mish),
    "GILR mish packed": ("GILR mish, not fused", packed(Mish)),
}
OURS = [name for name in LAYERS if not name.startswith("keras")]
ON_GPU = bool(tf.config.list_physical_devices("GPU"))


def model_of(layer, shape, units):
    return keras.Sequential(
        [
            keras.Input((shape[1], INPUTS)),
            layer(units, return_sequences=True),
            layer(units),
            keras.layers.Dense(OUTPUTS, dtype="float32"),
        ]
    )


def batch_of(shape):
    return tf.random.normal([*shape, INPUTS]), tf.random.normal([shape[0], OUTPUTS])


def wait_for(result):
    return tf.nest.flatten(result)[0].numpy()


def median_ms(run, seconds):
    """The median time of run() over RUNS rounds of calls, which take about `seconds` in all."""
    wait_for(run())
    start = time.perf_counter()
    wait_for(run())
    calls = max(1, int(seconds / RUNS / (time.perf_counter() - start)))
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(calls):
            result = run()
        wait_for(result)
        times.append((time.perf_counter() - start) / calls * 1e3)
    return float(np.median(times))


def step_of(layer, shape, units, jit_compile):
    """Returns a function that runs a training step and returns the loss."""
    model, optimizer = model_of(layer, shape, units), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    x, y = batch_of(shape)

    @tf.function(jit_compile=jit_compile)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return lambda: step(x, y)


def step_ms(layer, shape, units, jit_compile, seconds):
    step = step_of(layer, shape, units, jit_compile)
    first = float(step())
    result = median_ms(step, seconds)
    last = float(step())
    if not last < first:  # Short timings make few steps.
        last = min(float(step()) for _ in range(20))
    assert last < first, "the steps do not learn"
    return result


def optimizer_ms(layer, shape, units, seconds):
    """Adam's share of a step without XLA, where it runs a dozen small kernels per variable."""
    model, optimizer = model_of(layer, shape, units), keras.optimizers.Adam()
    variables = model.trainable_variables
    optimizer.build(variables)
    gradients = [tf.zeros(v.shape) for v in variables]

    @tf.function
    def update():
        optimizer.apply(gradients, variables)
        return variables[-1].value

    return median_ms(update, seconds)


# ---- The floor ----


def products_of(name, units):
    """The shapes of the kernels of both layers, one for each matrix product."""
    found = []
    for features in (INPUTS, units):
        if name == "GILR":
            found += [(features, 2 * units)]
        elif name == "LinearSurrogateLSTM":
            found += [(features, 2 * units), (features + units, 4 * units)]
        elif name == "SRU":
            found += [(features, (3 if features == units else 4) * units)]
        else:
            found += [((10 if "10" in name else 2) * features, 3 * units)]
    return found


# Arrays of batch x steps x units elements that gates and recurrences of one layer must move.
LEAST_ARRAYS = {"GILR": 9, "LinearSurrogateLSTM": 25, "SRU": 16, "QRNN(2)": 13, "QRNN(10)": 13}


def products_ms(name, shape, units, dtype, seconds):
    """The time of the products and of both their gradients; the model's inputs need none."""
    rows = shape[0] * shape[1]
    operands = []
    for i, (inner, columns) in enumerate(products_of(name, units)):
        x = tf.random.normal([rows, inner], dtype=tf.float32)
        kernel = tf.random.normal([inner, columns], dtype=tf.float32)
        y = tf.random.normal([rows, columns], dtype=tf.float32)
        wants_dx = i > 0 or (name == "LinearSurrogateLSTM" and i == 1)
        operands.append((*(tf.cast(a, dtype) for a in (x, kernel, y)), wants_dx))

    @tf.function(jit_compile=ON_GPU)
    def run(operands):
        results = []
        for (x, kernel, y), wants_dx in zip(operands, wants, strict=True):
            results += [tf.matmul(x, kernel), tf.matmul(x, y, transpose_a=True)]
            if wants_dx:
                results.append(tf.matmul(y, kernel, transpose_b=True))
        return results

    wants = [o[3] for o in operands]
    tensors = [o[:3] for o in operands]
    # Wait for one element only: it is read after the whole function has run.
    return median_ms(lambda: run(tensors)[1][0, 0], seconds)


def add_rate(seconds):
    """GB/s of an add of two arrays into a third."""
    size = 1 << (28 if ON_GPU else 24)
    a, b = tf.random.normal([size]), tf.random.normal([size])
    add = tf.function(lambda a, b: a + b, jit_compile=ON_GPU)
    ms = min(median_ms(lambda: add(a, b)[0], seconds) for _ in range(3))
    return 3 * 4 * size / ms / 1e6


def floor_of(name, shape, units, dtype, gb_per_s, seconds):
    products = products_ms(name, shape, units, dtype, seconds)
    moved = 2 * LEAST_ARRAYS[name] * shape[0] * shape[1] * units * tf.as_dtype(dtype).size
    return {"products": products, "traffic": moved / gb_per_s / 1e6}


# ---- What people call ----


class EpochTimes(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


def fit_ms(layer, shape, units, step, seconds):
    """(ms per step of Keras' default fit, whether Keras compiled the step)."""
    steps = max(10, int(seconds * 1e3 / step))
    dataset = tf.data.Dataset.from_tensors(batch_of(shape)).repeat(steps)
    if ON_GPU:
        dataset = dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0"))
    model = model_of(layer, shape, units)
    model.compile("adam", "mse")
    times = EpochTimes()
    model.fit(dataset, epochs=2, verbose=0, callbacks=[times])
    return times.seconds[1] / steps * 1e3, bool(model.jit_compile)


def inference_ms(layer, shape, units, seconds):
    model, (x, _) = model_of(layer, shape, units), batch_of(shape)
    call = tf.function(lambda x: model(x, training=False))
    return median_ms(lambda: call(x), seconds)


def masked_ms(layer, shape, units, seconds):
    """(ms of forward and gradient with all outputs returned, ms of the same with a mask)."""
    x, _ = batch_of(shape)
    lengths = tf.random.uniform([shape[0]], shape[1] // 2, shape[1] + 1, tf.int32)
    mask = tf.sequence_mask(lengths, shape[1])
    instance = layer(units, return_sequences=True)

    @tf.function
    def run(x, mask):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(instance(x, mask=mask, training=True)[:, -1])
        return [g[..., 0] for g in tape.gradient(loss, instance.trainable_variables)]

    return tuple(median_ms(lambda m=m: run(x, m), seconds) for m in (None, mask))


def decoding_us(layer, units, seconds):
    """Microseconds of one step with batch 1 in a loop in a tf.function, as in text generation."""
    instance = layer(units)
    instance.build((1, 1, units))
    cell = instance.cell
    steps = 1000

    @tf.function
    def decode(x):
        states = cell.get_initial_state(batch_size=1)
        for _ in tf.range(steps):
            x, states = cell(x, states)
        return x

    return median_ms(lambda: decode(tf.zeros([1, units])), seconds)


def peak_mib(layer, shape, units):
    """The peak memory that a step without XLA adds, in MiB."""
    if not ON_GPU:
        return None
    step = step_of(layer, shape, units, False)
    step()
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    tf.config.experimental.reset_memory_stats("GPU:0")
    wait_for(step())
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return (peak - before) / 2**20


def attempt(run):
    """What run returns, or the name of TensorFlow's error: cuDNN's LSTM has limits."""
    try:
        return run()
    except tf.errors.OpError as error:
        return type(error).__name__


# ---- Tables ----


def steps_table(arguments, dtype, gb_per_s, rows, save):
    seconds, units = arguments.seconds, arguments.units
    print(f"\n{dtype}; ms; (F): times the floor; add {gb_per_s:,.0f} GB/s")
    print(f"{'':>20} {'shape':>12} {'floor':>8} {'XLA':>16} {'no XLA':>16} {'Adam of it':>10}")
    for name in arguments.layers:
        layer = LAYERS[name]
        for shape in arguments.shapes:
            row = {"layer": name, "batch": shape[0], "steps": shape[1], "units": units}
            row["dtype"] = dtype
            if name in OURS:
                row["floor"] = floor_of(
                    name, shape, units, "bfloat16" if "bf" in dtype else dtype, gb_per_s, seconds
                )
            if name in OURS or not ON_GPU:
                row["xla"] = attempt(lambda s=shape, n=layer: step_ms(n, s, units, True, seconds))
            row["no_xla"] = attempt(lambda s=shape, n=layer: step_ms(n, s, units, False, seconds))
            row["optimizer"] = optimizer_ms(layer, shape, units, seconds)
            floor = sum(row["floor"].values()) if "floor" in row else None
            rows.append(row)

            def text(value, floor=floor):
                if not isinstance(value, float):
                    return f"{value or '':>16}"
                return f"{value:8.2f} " + (f"({value / floor:4.2f} F)" if floor else " " * 8)

            print(
                f"{name:>20} {'{}x{}'.format(*shape):>12} {floor or 0:8.2f} "
                f"{text(row.get('xla'))} {text(row['no_xla'])} {row['optimizer']:10.2f}",
                flush=True,
            )
            save()


def calls_table(arguments, rows, save):
    shape = arguments.call_shape
    seconds, units = arguments.seconds, arguments.units
    print("\nbatch {} x {} steps; ms; decoding: us a step; peak: MiB".format(*shape))
    print(
        f"{'':>20} {'fit':>9} {'inference':>9} {'unmasked':>9} {'masked':>9} {'decoding':>9} "
        f"{'peak':>9}"
    )
    for name in arguments.layers:
        layer = LAYERS[name]
        step = step_ms(layer, shape, units, False, seconds)
        fit, compiled = fit_ms(layer, shape, units, step, seconds)
        plain, masked = masked_ms(layer, shape, units, seconds)
        row = {
            "layer": name, "batch": shape[0], "steps": shape[1], "units": units, "step": step,
            "fit": fit, "fit_compiled": compiled,
            "inference": inference_ms(layer, shape, units, seconds),
            "unmasked": plain, "masked": masked,
            "decoding_us": decoding_us(layer, units, seconds),
            "peak_mib": peak_mib(layer, shape, units),
        }  # fmt: skip
        rows.append(row)
        numbers = ("fit", "inference", "unmasked", "masked", "decoding_us", "peak_mib")
        print(f"{name:>20}", *(f"{row[n] or 0:9.2f}" for n in numbers), flush=True)
        save()


def variants_table(arguments, rows, save):
    shape, units, seconds = arguments.call_shape, arguments.units, arguments.seconds
    print(
        "\nbatch {} x {} steps; ms of a step; (over the layer's with defaults,"
        " or, if packed, over the same with one sequence in a row)".format(*shape)
    )
    print(f"{'':>20} {'XLA':>15} {'no XLA':>15}")
    defaults = {}
    for name, (base, layer) in VARIANTS.items():
        row = {"layer": name, "batch": shape[0], "steps": shape[1], "units": units}
        for way, jit_compile in (("xla", True), ("no_xla", False)):
            if (base, way) not in defaults:
                compared = VARIANTS[base][1] if base in VARIANTS else LAYERS[base]
                defaults[base, way] = step_ms(compared, shape, units, jit_compile, seconds)
            row[way] = step_ms(layer, shape, units, jit_compile, seconds)
            row[f"default_{way}"] = defaults[base, way]
        rows.append(row)
        ways = (f"{row[w]:8.2f} ({row[w] / row[f'default_{w}']:4.2f})" for w in ("xla", "no_xla"))
        print(f"{name:>20}", *ways, flush=True)
        save()


def heat_map(arguments, rows, save):
    """Prints thousand steps per second for every batch size and sequence length."""
    units = arguments.units
    print("\nthousand steps/s, a training step, over keras LSTM's")
    for batch in arguments.batches:
        for steps in arguments.lengths:
            shape = (batch, steps)
            if batch * steps > arguments.most:
                continue
            lstm_shape = (batch, min(steps, arguments.most_lstm_steps))
            lstm = attempt(
                lambda s=lstm_shape: step_ms(keras.layers.LSTM, s, units, False, arguments.seconds)
            )
            if isinstance(lstm, float):
                lstm = batch * lstm_shape[1] / lstm
            row = {"batch": batch, "steps": steps, "units": units, "keras LSTM": lstm}
            row["lstm_steps"] = lstm_shape[1]
            for name in arguments.layers:
                if name not in OURS:
                    continue
                ms = attempt(
                    lambda s=shape, n=name: step_ms(
                        LAYERS[n], s, units, n in arguments.xla_layers, arguments.seconds
                    )
                )
                row[name] = batch * steps / ms if isinstance(ms, float) else ms
            rows.append(row)
            save()
            ratios = {
                n: f"{row[n] / lstm:.1f}x"
                for n in arguments.layers
                if n in OURS and isinstance(row[n], float) and isinstance(lstm, float)
            }
            lstm = f"{lstm:,.1f}" if isinstance(lstm, float) else lstm
            print(f"{batch:>4} x {steps:>8,}: LSTM {lstm}", ratios, flush=True)


def shape_of(text):
    batch, steps = text.split("x")
    return int(batch), int(steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shapes = "1x1024 1x65536 16x8192 256x1024" if ON_GPU else "1x784 16x784 128x64"
    shapes = [shape_of(text) for text in shapes.split()]
    parser.add_argument("--units", type=int, default=256 if ON_GPU else 64)
    parser.add_argument("--shapes", type=shape_of, nargs="*", default=shapes)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--dtypes", nargs="*", default=["float32", "mixed_bfloat16"])
    parser.add_argument("--call-shape", type=shape_of, default=(16, 8192) if ON_GPU else (16, 784))
    parser.add_argument("--no-calls", action="store_true")
    parser.add_argument("--no-variants", action="store_true")
    parser.add_argument("--heat-map", action="store_true", help="instead of the tables")
    parser.add_argument(
        "--xla-layers", nargs="*", choices=OURS, default=OURS if ON_GPU else [],
        help="which layers of the heat map run under XLA",
    )  # fmt: skip
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[256, 1024, 4096, 16384, 65536, 131072]
    )
    parser.add_argument("--most", type=int, default=1 << 20, help="steps of a batch in all")
    parser.add_argument("--most-lstm-steps", type=int, default=1024, help="longer: as fast")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    result = {"environment": environment(arguments.commit)}
    print(json.dumps(result["environment"]))

    def save():
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")

    if arguments.heat_map:
        result["xla_layers"], result["heat_map"] = arguments.xla_layers, []
        heat_map(arguments, result["heat_map"], save)
        return
    result["add_gb_per_s"] = gb_per_s = add_rate(arguments.seconds)
    result["steps"] = []
    for dtype in arguments.dtypes:
        keras.config.set_dtype_policy(dtype)
        steps_table(arguments, dtype, gb_per_s, result["steps"], save)
        keras.config.set_dtype_policy("float32")
    if not arguments.no_calls:
        result["calls"] = []
        calls_table(arguments, result["calls"], save)
    if not arguments.no_variants:
        result["variants"] = []
        variants_table(arguments, result["variants"], save)


if __name__ == "__main__":
    main()
