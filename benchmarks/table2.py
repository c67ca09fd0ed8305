# SPDX-License-Identifier: MIT
"""Measures table 2 of the paper: the speedup of "parallel" over "serial" in a network.

    python benchmarks/table2.py [--quick] [--output RESULTS.json]

The model has two layers. Its input has 4 features and batch x steps = 65,536, and is already on the
device. One tf.function (under XLA on a GPU) runs the forward pass and the gradient. Each number is
the speedup over the same model with algorithm="serial", computed from the medians of repeated runs
in one process. The paper's numbers were measured on a K80 (Martin and Cundy, ICLR 2018, table 2).
Rows that are already in the file of --output are not measured again.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from environment import environment
from layers import ON_GPU, median_ms

import tf_plr

LAYERS = {
    "SRU": lambda units, **options: tf_plr.SRU(units, **options),
    "QRNN(2)": lambda units, **options: tf_plr.QRNN(units, kernel_size=2, **options),
    "QRNN(10)": lambda units, **options: tf_plr.QRNN(units, kernel_size=10, **options),
    "GILR-LSTM": lambda units, **options: tf_plr.GILRLSTM(units, **options),
}
PAPER = {
    16: (0.28, 0.38, 0.78, 0.61),
    256: (0.84, 0.86, 0.99, 0.91),
    4096: (1.38, 1.18, 1.05, 0.98),
    65536: (9.21, 6.68, 2.05, 1.41),
}
ALGORITHMS = ("serial", "parallel", "auto")
FEATURES = 4


def run_of(layer, batch, steps, units, algorithm):
    """Makes a function that runs forward and gradient, and returns one value per gradient."""
    model = keras.Sequential([keras.Input((steps, FEATURES))])
    model.add(layer(units, return_sequences=True, algorithm=algorithm))
    model.add(layer(units, return_sequences=True, algorithm=algorithm))
    x = tf.random.normal([batch, steps, FEATURES])
    d_y = tf.random.normal([batch, steps, units])

    @tf.function(jit_compile=ON_GPU)
    def run(x, d_y):
        with tf.GradientTape() as tape:
            y = model(x, training=True)
        gradients = tape.gradient(y, model.trainable_variables, output_gradients=d_y)
        return [tf.reshape(g, [-1])[:1] for g in gradients]

    return lambda: run(x, d_y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--size", type=int, default=65536, help="batch x steps")
    parser.add_argument("--seconds", type=float, default=0.5, help="duration of each measurement")
    parser.add_argument("--quick", action="store_true", help="a small model, for a CPU")
    parser.add_argument("--output", type=Path, help="JSON file of results")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.units, arguments.size, arguments.seconds = 32, 4096, 0.05
    result = {"environment": environment(arguments.commit), "rows": []}
    if arguments.output and arguments.output.exists():
        result = json.loads(arguments.output.read_text())
    rows = {(r["layer"], r["batch"], r["steps"], r.get("units", 256)): r for r in result["rows"]}
    print(json.dumps(result["environment"]))
    print(f"times as fast as serial; {arguments.units} units, batch x steps = {arguments.size:,}")
    print(f"{'':>10} {'steps':>7} {'parallel':>9} {'auto':>6} {'paper':>6} {'serial, ms':>11}")
    for i, (name, layer) in enumerate(LAYERS.items()):
        for steps in [s for s in PAPER if s <= arguments.size]:
            batch = arguments.size // steps
            ms = rows.get((name, batch, steps, arguments.units))
            if ms is None:
                ms = {"layer": name, "batch": batch, "steps": steps, "units": arguments.units}
                for algorithm in ALGORITHMS:
                    run = run_of(layer, batch, steps, arguments.units, algorithm)
                    ms[algorithm] = median_ms(run, arguments.seconds)
                result["rows"].append(ms)
            print(
                f"{name:>10} {steps:>7,} {ms['serial'] / ms['parallel']:9.2f} "
                f"{ms['serial'] / ms['auto']:6.2f} {PAPER[steps][i]:6.2f} {ms['serial']:11.2f}",
                flush=True,
            )
            if arguments.output:
                arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
