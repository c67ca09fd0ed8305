# SPDX-License-Identifier: MIT
"""How the initial biases decide what a net can remember: one bit over T steps.

    python benchmarks/memory.py [--steps 784 1024 8192] [--output RESULTS.json]

The first element of a sequence is plus or minus the first of 128 unit vectors, every later one a
random one of them; the class is the sign of the first, read after the last step (problem 2b of
Hochreiter and Schmidhuber, 1997, as in table 3 of Martin and Cundy, ICLR 2018). Two
LinearSurrogateLSTM layers, Adam, gradients clipped at norm 1. A run has learned when five batches
in a row are all correct. Each recipe for the initial biases is run from several seeds; data is made
on the device.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr
from tf_plr.initializers import Chrono

SYMBOLS = 128
CORRECT_IN_A_ROW = 5


def log_uniform(steps):
    """Memories of all magnitudes up to `steps`."""
    return keras.initializers.RandomUniform(0.0, math.log(steps))


# Name: the layers' arguments for a memory of so many steps.
RECIPES = {
    "default": lambda steps: {},
    "log T": lambda steps: {"forget_bias": math.log(steps)},
    "log T, coupled": lambda steps: {"forget_bias": math.log(steps), "input_bias": "coupled"},
    "log T, normalized": lambda steps: {"forget_bias": math.log(steps), "input_bias": "normalized"},
    "Chrono": lambda steps: {"forget_bias": Chrono(steps)},
    "Chrono, coupled": lambda steps: {"forget_bias": Chrono(steps), "input_bias": "coupled"},
    "Chrono, normalized": lambda steps: {"forget_bias": Chrono(steps), "input_bias": "normalized"},
    "log T, normalized, LN": lambda steps: {
        "forget_bias": math.log(steps),
        "input_bias": "normalized",
        "layer_normalization": True,
    },
    "Chrono, normalized, LN": lambda steps: {
        "forget_bias": Chrono(steps),
        "input_bias": "normalized",
        "layer_normalization": True,
    },
    "log T, LN": lambda steps: {"forget_bias": math.log(steps), "layer_normalization": True},
    "log T, coupled, LN": lambda steps: {
        "forget_bias": math.log(steps),
        "input_bias": "coupled",
        "layer_normalization": True,
    },
}


def build(units, **biases):
    model = keras.Sequential([keras.Input((None, SYMBOLS))])
    model.add(tf_plr.LinearSurrogateLSTM(units, return_sequences=True, **biases))
    model.add(tf_plr.LinearSurrogateLSTM(units, **biases))
    model.add(keras.layers.Dense(1))
    return model


class Trainer:
    """One compiled training step for all runs of one shape."""

    def __init__(self, steps, units, batch, rate, **options):
        self.shape = batch, steps
        self.units = units
        self.model = build(units, **options)
        self.optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
        self.optimizer.build(self.model.trainable_variables)
        self._step = tf.function(self._train, jit_compile=True)

    def _train(self, seed):
        batch, steps = self.shape
        signs = tf.random.stateless_uniform([batch, 1], seed, 0, 2, tf.int32)
        symbols = tf.random.stateless_uniform([batch, steps - 1], seed + 1, 0, SYMBOLS, tf.int32)
        first = (
            tf.one_hot(tf.zeros_like(signs), SYMBOLS)
            * tf.cast(2 * signs - 1, tf.float32)[..., None]
        )
        x = tf.concat([first, tf.one_hot(symbols, SYMBOLS)], 1)
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(signs, logits, from_logits=True))
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        correct = tf.reduce_all((logits > 0) == (signs > 0))
        return loss, correct

    def compile(self):
        start = time.perf_counter()
        self._step(tf.constant([0, 0]))[0].numpy()
        return time.perf_counter() - start

    def run(self, recipe, seed, iterations):
        """(iterations until learned, or None; seconds; losses)."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(build(self.units, **recipe).get_weights())
        for variable in self.optimizer.variables:
            if "learning_rate" not in variable.path:
                variable.assign(tf.zeros_like(variable))
        losses, in_a_row = [], 0
        start = time.perf_counter()
        for i in range(iterations):
            loss, correct = self._step(tf.constant([seed, 2 * i]))
            losses.append(float(loss))
            in_a_row = in_a_row + 1 if bool(correct) else 0
            if in_a_row == CORRECT_IN_A_ROW:
                return i + 1, time.perf_counter() - start, losses
            if not math.isfinite(losses[-1]):
                break
        return None, time.perf_counter() - start, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[784, 1024, 8192])
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, nargs="+", default=[0.001])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=1500, help="at most, in a run")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=[*RECIPES])
    parser.add_argument("--quick", action="store_true", help="a small one, for a CPU")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.units, arguments.seeds = [64], 32, 2
        arguments.rate, arguments.iterations = [0.01], 300
        arguments.recipes = ["default", "Chrono, coupled"]
    result = {"environment": environment(arguments.commit), "runs": []}
    print(json.dumps(result["environment"]))
    for steps in arguments.steps:
        for rate in arguments.rate:
            trainers = {}
            for name in arguments.recipes:
                runs = []
                normalized = RECIPES[name](steps).get("layer_normalization", False)
                if normalized not in trainers:
                    trainers[normalized] = Trainer(
                        steps,
                        arguments.units,
                        arguments.batch,
                        rate,
                        layer_normalization=normalized,
                    )
                    seconds = trainers[normalized].compile()
                    print(f"T = {steps:,}: compiled in {seconds:.0f} s", flush=True)
                trainer = trainers[normalized]
                for seed in range(arguments.seeds):
                    recipe = RECIPES[name](steps)
                    learned, seconds, losses = trainer.run(recipe, seed, arguments.iterations)
                    some = losses[:: max(1, len(losses) // 200)]
                    runs.append((learned, seconds))
                    result["runs"].append(
                        {
                            "steps": steps, "units": arguments.units, "batch": arguments.batch,
                            "rate": rate, "recipe": name, "seed": seed, "learned": learned,
                            "seconds": round(seconds, 3), "first_loss": losses[0],
                            "every": max(1, len(losses) // 200),
                            "losses": [round(loss, 4) for loss in some],
                        }
                    )  # fmt: skip
                learned = [iterations for iterations, _ in runs if iterations]
                mean = f"{np.mean(learned):6.0f} iterations" if learned else " " * 17
                print(
                    f"T = {steps:>6,}  rate {rate:<6g} {name:<22} learned {len(learned)} of "
                    f"{len(runs)}  {mean}  {[i or '-' for i, _ in runs]}  "
                    f"{sum(s for _, s in runs):5.1f} s in all",
                    flush=True,
                )
                if arguments.output:
                    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
