# SPDX-License-Identifier: MIT
"""Several GPUs against one: sequences of their own, parts of one sequence, and the exchange alone.

    python benchmarks/distributed.py [--output RESULTS.json] [--quick]

Each GPU of this machine is a replica. A single GPU is split into two logical GPUs, which take
turns; without a GPU, the CPU is split. That measures how much work two replicas add, not how fast
two GPUs are.

The model has two LS-LSTM layers of 256 units on 32 inputs, and a Dense of 1. A *step* is forward
pass, gradient and Adam. The kinds of measurements are

  fit        batch 16 per replica, 8,192 steps: sequences per second in the second epoch of `fit`;
  loop       the same in a custom loop, also with each replica's gradients compiled by XLA;
  sequence   one sequence, split into one part per replica; the single GPU runs with XLA and
             without, as replicas cannot use XLA;
  memory     the same with 1,048,576 steps and gates that forget nothing. (Where gates forget, the
             read-only passes can stop early.)
  reduction  the read-only passes, by which a replica computes how its part transforms the state;
  op         tf_plr.distributed.linear_recurrence, [1, T, 256], forward, and with its gradient;
  exchange   the all-reduce by which replicas find the state before their part, and the
             all-reduce of all gradients of the model.

Before op, sequence and memory are timed, the results of several GPUs are compared with those of
one. replica_model.py models the time of a step from the rows of sequence; plot.py draws it.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np
import tensorflow as tf
from environment import environment
from gpu_profile import kernels_of
from replica_model import predictions

import tf_plr
from tf_plr._native.library import load_ops
from tf_plr._ops.gated_recurrence import Parts
from tf_plr.distributed._exchange import Exchange

INPUTS = 32
REMEMBERS = 16.0  # A forget bias that keeps most of a state for millions of steps.
# The gates' memory decides how many steps of a part the read-only passes read.
BIASES = {
    tf_plr.LinearSurrogateLSTM: {"forget_bias": 5.0, "input_bias": None},
    tf_plr.GILR: {"forget_bias": 0.0},
    tf_plr.SRU: {"forget_bias": 5.0},
    tf_plr.QRNN: {"forget_bias": 0.0},
}
LAYERS = {
    "LinearSurrogateLSTM": tf_plr.LinearSurrogateLSTM,
    "GILR": tf_plr.GILR,
    "SRU": tf_plr.SRU,
    "QRNN": tf_plr.QRNN,
}


def wait(results):
    """Waits until tensors, or the parts of per-replica values, are computed."""
    for result in tf.nest.flatten(results):
        for part in getattr(result, "values", [result]):
            with tf.device(part.device):  # By default, the part is copied to the first device.
                tf.reshape(part, [-1])[-1:].numpy()


def milliseconds(seconds, function, *arguments):
    """Returns the median time of a call, including the wait for its results."""
    times, until = [], math.inf
    while len(times) < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        wait(function(*arguments))
        times.append(time.perf_counter() - start)
        if len(times) == 2:  # These do not count.
            until = time.perf_counter() + seconds
    return 1e3 * float(np.median(times[2:]))


def in_float32(function, *arguments):
    """Calls function with full float32 matrix products, without TensorFloat-32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        return [tensor.numpy() for tensor in function(*arguments)]
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


def model_of(layer, units, sequence_parallel=False, remembers=False):
    """Builds a model and its optimizer. With remembers=True, an LS-LSTM's gates forget nothing."""
    options = {"sequence_parallel": sequence_parallel, **BIASES[layer]}
    model = keras.Sequential(
        [
            keras.Input((None, INPUTS)),
            layer(units, return_sequences=True, **options),
            layer(units, **options),
            keras.layers.Dense(1),
        ]
    )
    for recurrent in model.layers[:2] if remembers else []:
        bias = recurrent.cell.bias.numpy()
        bias[:units] = bias[2 * units : 3 * units] = REMEMBERS  # The surrogate's gate and forget.
        recurrent.cell.bias.assign(bias)
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def functions_of(model, optimizer, strategy, jit_compile=False):
    """Returns two functions of (inputs, targets), which are per-replica values with a strategy.

    The first is a training step and returns the loss. The second returns the loss and its
    gradients. jit_compile=True compiles everything with XLA; "gradients" compiles only the
    gradients of each replica, the one part that replicas can compile.
    """
    share = strategy.num_replicas_in_sync if strategy else 1
    compiles_gradients = jit_compile == "gradients"

    def gradients_of(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2) / share
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    if compiles_gradients:
        gradients_of = tf.function(gradients_of, jit_compile=True)

    def train(x, y):
        loss, *gradients = gradients_of(x, y)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    def over_replicas(function):
        def run(x, y):
            if strategy is None:
                return function(x, y)
            results = strategy.run(function, args=(x, y))
            return tf.nest.map_structure(lambda r: strategy.reduce("SUM", r, axis=None), results)

        return tf.function(run, jit_compile=jit_compile and not compiles_gradients)

    return over_replicas(train), over_replicas(gradients_of)


def one_device():
    """The device to run on without a strategy."""
    return tf.device("/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0")


def on_each(strategy, make):
    """Distributes the values of make(replica), each made on its replica's device."""

    def make_there(context):
        replica = context.replica_id_in_sync_group
        with tf.device(strategy.extended.worker_devices[replica]):  # Not the first.
            return make(replica)

    return strategy.experimental_distribute_values_from_function(make_there)


def part_of(sequence, replica, replicas):
    """A replica's part of a sequence, [1, steps, INPUTS]; no device holds the whole sequence."""
    steps = sequence // replicas
    return tf.random.stateless_normal([1, steps, INPUTS], [7, replica])


class Benchmark:
    def __init__(self, strategy, units, seconds, result, kernels=False):
        self.strategy, self.units, self.seconds, self.result = strategy, units, seconds, result
        self.replicas = strategy.num_replicas_in_sync
        self.kernels = kernels

    def time(self, function, *arguments):
        ms = milliseconds(self.seconds, function, *arguments)
        if self.kernels:
            print(f"a call: {ms:.3f} ms\n{kernels_of(lambda: wait(function(*arguments)))}")
        return ms

    def record(self, kind, **values):
        self.result["rows"].append({"kind": kind, "replicas": self.replicas, **values})
        print(kind, ", ".join(f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}"
                              for k, v in values.items()), flush=True)  # fmt: skip

    def exchange(self):
        count = 50

        def draw(shapes):  # Passed as arguments: TensorFlow would fold constants before timing.
            return on_each(self.strategy, lambda i: [
                tf.random.stateless_uniform(shape, [7, i]) for shape in shapes
            ])  # fmt: skip

        @tf.function
        def run(decays, carries):
            def replica(decay, carry):
                exchange = Exchange(reverse=False)
                for i in range(count):  # Alternate, or replicas would not wait.
                    transition = tf.stack([decay, carry])
                    carry = exchange.carry_before(transition, carry, backward=i % 2 == 1) / 2
                return tf.reduce_sum(carry)

            results = self.strategy.run(replica, args=(decays, carries))
            return self.strategy.reduce("SUM", results, axis=None)

        ms = self.time(run, *draw([(1, self.units)] * 2)) / count
        self.record("exchange", floats=2 * self.units, ms=ms)
        with one_device():
            model, _ = model_of(tf_plr.LinearSurrogateLSTM, self.units)
        shapes = [variable.shape for variable in model.trainable_variables]

        @tf.function
        def sum_gradients(gradients):
            def replica(gradients):
                context = tf.distribute.get_replica_context()
                for _ in range(count):
                    gradients = context.all_reduce("MEAN", gradients)
                return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

            results = self.strategy.run(replica, args=(gradients,))
            return self.strategy.reduce("SUM", results, axis=None)

        ms = self.time(sum_gradients, draw(shapes)) / count
        self.record("gradients", floats=sum(map(math.prod, shapes)), ms=ms)

    def op(self, steps):
        shape = [1, steps // self.replicas, self.units]

        def operands(seed):
            decays = tf.random.stateless_uniform(shape, [seed, 0], 0.9, 1.0)
            return decays, tf.random.stateless_normal(shape, [seed, 1])

        shards = on_each(self.strategy, operands)
        with one_device():
            whole = [
                tf.concat(p, 1) for p in zip(*map(operands, range(self.replicas)), strict=True)
            ]

        # Return only each part's last step, as a tf.function copies its results to one GPU.
        last = slice(shape[1] - 1, None, shape[1])

        def forward(function, decays, impulses):
            return [function(decays, impulses, axis=1)[:, last]]

        def both(function, decays, impulses):
            with tf.GradientTape() as tape:
                tape.watch([decays, impulses])
                states = function(decays, impulses, axis=1)
            return [gradient[:, last] for gradient in tape.gradient(states, [decays, impulses])]

        for name, run in (("forward", forward), ("forward and gradient", both)):
            alone = tf.function(lambda a, x, run=run: run(tf_plr.linear_recurrence, a, x))

            @tf.function
            def spread(shards, run=run):
                return self.strategy.run(
                    lambda shard: run(tf_plr.distributed.linear_recurrence, *shard), (shards,)
                )

            local = self.strategy.experimental_local_results
            for one, several in zip(
                tf.nest.flatten(alone(*whole)), tf.nest.flatten(spread(shards)), strict=True
            ):
                np.testing.assert_allclose(tf.concat(local(several), 1), one, rtol=1e-3, atol=1e-3)
            one = self.time(alone, *whole)
            several = self.time(spread, shards)
            self.record(f"op, {name}", steps=steps, one=one, several=several, times=one / several)

    def sequence(self, steps, remembers=False):
        ways = {"one, XLA": (None, True), "one": (None, False), "several": (self.strategy, False)}
        trained, found, errors = {}, {}, {}
        for name, (strategy, jit_compile) in ways.items():
            keras.utils.set_random_seed(0)
            with strategy.scope() if strategy else one_device():
                model, optimizer = model_of(
                    tf_plr.LinearSurrogateLSTM, self.units, bool(strategy), remembers
                )
            train, gradients_of = functions_of(model, optimizer, strategy, jit_compile)
            try:
                batch = self._batch(steps, bool(strategy))
                found[name] = in_float32(gradients_of, *batch)
                wait(train(*batch))
                trained[name] = train
            except tf.errors.ResourceExhaustedError:
                print(f"{name}: {steps:,} steps do not fit")
            batch = None
        for name in found if "several" in found else ():
            errors[name] = float(np.max([
                np.max(np.abs(one - several)) / np.max(np.abs(one))
                for one, several in zip(found[name], found["several"], strict=True)
            ]))  # fmt: skip
            assert errors[name] <= 1e-3, (steps, errors)  # Also where it is NaN.
        times = {}
        for name, train in trained.items():
            times[name] = self.time(train, *self._batch(steps, name == "several"))
        ratios = {f"times {n}": times[n] / times["several"] for n in ("one, XLA", "one")
                  if n in times and "several" in times}  # fmt: skip
        kind = "sequence, nothing forgotten" if remembers else "sequence"
        error = {"error of gradients": max(errors.values())} if errors else {}
        self.record(kind, steps=steps, **times, **ratios, **error)

    def _batch(self, steps, several):
        """One sequence and its target: per replica if `several`, else whole."""
        y = tf.ones([1, 1])
        if several:
            x = on_each(self.strategy, lambda i: part_of(steps, i, self.replicas))
            return x, on_each(self.strategy, lambda _: y)
        parts = [part_of(steps, i, self.replicas) for i in range(self.replicas)]
        return tf.concat(parts, 1), y

    def fit(self, name, batch, steps, batches=100):
        """Sequences per second of Keras' default `fit`, with all replicas and with one."""
        rates = {}
        for several in (False, True):
            count = batch * (self.replicas if several else 1)
            x, y = np.random.default_rng(0).normal(size=(count, steps, INPUTS)), np.ones((count, 1))
            data = tf.data.Dataset.from_tensors((x.astype("float32"), y)).repeat(batches)
            with self.strategy.scope() if several else one_device():
                model, optimizer = model_of(LAYERS[name], self.units)
                model.compile(optimizer, "mse")
            starts, ends = [], []
            clock = keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda *_, to=starts: to.append(time.perf_counter()),
                on_epoch_end=lambda *_, to=ends: to.append(time.perf_counter()),
            )
            model.fit(data, epochs=2, callbacks=[clock], verbose=0)
            rates["several" if several else "one"] = count * batches / (ends[1] - starts[1])
        self.record(
            f"fit, {name}", batch=batch, steps=steps, one=rates["one"], several=rates["several"],
            times=rates["several"] / rates["one"],
        )  # fmt: skip

    def loop(self, batch, steps):
        """The time of a step of a custom loop, in which each replica has its own sequences."""
        ways = {
            "one, XLA": (None, True),
            "several": (self.strategy, False),
            "several, gradients by XLA": (self.strategy, "gradients"),
        }
        times = {}
        for name, (strategy, jit_compile) in ways.items():
            if strategy and jit_compile and not tf.config.list_physical_devices("GPU"):
                continue  # On CPUs, XLA cannot find the second replica's variables.
            with strategy.scope() if strategy else one_device():
                model, optimizer = model_of(tf_plr.LinearSurrogateLSTM, self.units)
            train, _ = functions_of(model, optimizer, strategy, jit_compile)

            def draw(seed):
                return tf.random.stateless_normal([batch, steps, INPUTS], [seed, 0])

            x, y = draw(0), tf.ones([batch, 1])
            if strategy:
                x, y = on_each(strategy, draw), on_each(strategy, lambda _, y=y: y)
            times[name] = self.time(train, x, y)
        ratios = {f"times, {n}": self.replicas * times["one, XLA"] / times[n]
                  for n in times if n.startswith("several")}  # fmt: skip
        self.record("loop, LinearSurrogateLSTM", batch=batch, steps=steps, **times, **ratios)

    def reduction(self, steps):
        """The time that the read-only passes add to a step of the model, on one device.

        Once with the initial gates, which forget, and once with gates that forget nothing.
        """
        library = load_ops()
        d_outputs = tf.random.normal([1, steps, self.units])
        calls = []
        surrogate, of_output = Parts("previous"), Parts("gated", input_gate="own")
        for parts, at_first, places in ((surrogate, 0.0, [0, 1]), (of_output, 5.0, [0, 3, 1, 2])):
            product = tf.random.normal([1, steps, len(places) * self.units])
            rest = tf.zeros([(len(places) - 1) * self.units])
            biases = [tf.concat([tf.fill([self.units], forget), rest], 0)
                      for forget in (at_first, REMEMBERS)]  # fmt: skip
            calls.append((parts, places, product, biases))

        @tf.function
        def run(remembers):
            transitions = [
                library.tf_plr_gated_recurrence_transition(
                    product, [tf.where(remembers, biases[1], biases[0])], [], [], given,
                    blocks=places, **parts._asdict(),
                )
                for parts, places, product, biases in calls
                for given in ([], [d_outputs])
            ]  # fmt: skip
            return tf.reduce_sum(transitions)

        # Blocks read: 2 and 3 forward; backward a gate, the output gate (if any) and d_outputs.
        gigabytes = (2 + 2 + 3 + 3) * steps * self.units * 4 / 1e9
        for name, remembers in (("forgotten", False), ("nothing forgotten", True)):
            ms = self.time(run, tf.constant(remembers))
            speed = {"GB/s": gigabytes / ms * 1e3} if remembers else {}
            self.record(f"reduction, {name}", steps=steps, ms=2 * ms, **speed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("exchange", "reduction", "op", "sequence", "loop", "fit", "memory")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number")
    parser.add_argument("--gigabytes", type=int, default=30, help="GiB of each half of one GPU")
    parser.add_argument("--steps", type=int, nargs="+", help="of sequence")
    parser.add_argument("--kernels", action="store_true", help="print what a GPU did in each call")
    parser.add_argument("--quick", action="store_true", help="a small one")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    op_steps, reduction_steps, shape = 8_388_608, 1_048_576, (16, 8192)
    lengths, longest = (131_072, 262_144, 1_048_576, 8_388_608), 1_048_576
    devices, reduction = None, None
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) == 1:
        op_steps, lengths = 2_097_152, lengths[:3]
    if arguments.quick:
        arguments.units, arguments.seconds = 8, 0.05
        op_steps, reduction_steps, shape, lengths, longest = 4096, 1024, (4, 64), (256, 1024), 1024
    if not gpus:
        devices = ["/CPU:0", "/CPU:1"]
        logical = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], logical
        )
    elif len(gpus) == 1:
        devices, reduction = ["/GPU:0", "/GPU:1"], tf.distribute.ReductionToOneDevice()
        half = tf.config.LogicalDeviceConfiguration(arguments.gigabytes * 1024)
        tf.config.set_logical_device_configuration(gpus[0], [half] * 2)
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)
    replicas = strategy.num_replicas_in_sync
    about = {**environment(arguments.commit), "replicas": replicas, "gpus": len(gpus)}
    result = {"environment": about, "units": arguments.units, "rows": []}
    print(json.dumps(about))
    benchmark = Benchmark(strategy, arguments.units, arguments.seconds, result, arguments.kernels)
    for kind in arguments.kinds:
        if kind == "exchange":
            benchmark.exchange()
        elif kind == "reduction":
            benchmark.reduction(reduction_steps)
        elif kind == "op":
            benchmark.op(op_steps)
        elif kind == "sequence":
            for steps in arguments.steps or lengths:
                benchmark.sequence(steps)
        elif kind == "memory":
            benchmark.sequence(longest, remembers=True)
        elif kind == "loop":
            benchmark.loop(*shape)
        else:
            for name in LAYERS:
                benchmark.fit(name, *shape)
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    if "sequence" in arguments.kinds and (found := predictions(result["rows"], max(1, len(gpus)))):
        result |= found
        print("model", json.dumps(result["model"]))
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
