# SPDX-License-Identifier: MIT
"""Which initial biases learn best: small tasks, three learning rates, beside keras.layers.LSTM.

    python benchmarks/defaults.py [--recipes ...] [--seeds 5] [--output RESULTS.json] [--quick]

A run trains the model of a task (see small_tasks.py) with Adam. It reports the mean loss of the
first epoch, the mean loss of the last epoch, and the loss on held-out data. A recipe is a choice of
a layer's initial biases; "default" passes none. Each core runs one single-threaded process.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # These nets are too small for a GPU.

import keras
import numpy as np
import tensorflow as tf
from environment import environment
from small_tasks import LEAST_LOSS, TASKS, best_losses

import tf_plr
from tf_plr.initializers import TimeScales

RATES = (0.001, 0.003, 0.01)
LAYERS = {
    "LSTM": keras.layers.LSTM,
    "GILRLSTM": tf_plr.GILRLSTM,
    "GILR": tf_plr.GILR,
    "SRU": tf_plr.SRU,
    "QRNN": tf_plr.QRNN,
}


class SpreadSurrogateCell(tf_plr.LinearSurrogateLSTMCell):
    """An LS-LSTM cell whose surrogate gate, too, starts with time scales from one step upwards."""

    def bias_starts(self):
        return {**super().bias_starts(), "surrogate_gate": ("forget_bias", TimeScales())}


class SpreadSurrogate(tf_plr.LinearSurrogateLSTM):
    cell_class = SpreadSurrogateCell


def recipes_of(layer):
    """{name: arguments that set the initial biases}; the entry "class" replaces the layer."""
    recipes = {"default": {}}
    if layer == "LSTM":
        return recipes
    if layer != "GILRLSTM":
        for bias in (0.0, 1.0, 5.0):
            recipes[f"forget {bias:g}"] = {"forget_bias": bias}
        for steps in (100, 300, 1000):
            recipes[f"scales {steps}"] = {"forget_bias": TimeScales(steps)}
        return recipes
    for bias in (1.0, 5.0):
        recipes[f"forget {bias:g}, open"] = {"forget_bias": bias, "input_bias": None}
    for inputs in ("normalized", "coupled"):
        for steps in (100, 300, 1000):
            recipe = {"forget_bias": TimeScales(steps), "input_bias": inputs}
            recipes[f"scales {steps}, {inputs}"] = recipe
        recipes[f"scales 1000, {inputs}, surrogate"] = {**recipe, "class": SpreadSurrogate}
    return recipes


def layer_of(name, recipe):
    """Returns a function that makes a layer of `units`."""
    if name == "LSTM":  # Without cuDNN, which a CPU has no use for, XLA can compile the loop.
        return lambda units, **options: keras.layers.LSTM(units, use_cudnn=False, **options)

    def make(units, **options):  # New initializers: a shared one would repeat its draws.
        arguments = recipes_of(name)[recipe]
        layer = arguments.pop("class", LAYERS[name])
        return layer(units, **arguments, **options)

    return make


def train(task_name, layer_name, recipe, rate, seeds, quick):
    """Trains one model once per seed, with newly drawn weights. Returns a list of results."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    task, runs = TASKS[task_name], []
    epochs = 2 if quick else task.epochs
    train_count, test_count = (
        (task.batch, task.batch) if quick or task.stateful else (task.train, task.test)
    )
    layer = layer_of(layer_name, recipe)
    model = task.build(layer)
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, task.loss, jit_compile=layer_name == "LSTM")
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        model.set_weights(task.build(layer).get_weights())
        if optimizer.built:
            for variable in optimizer.variables[2:]:  # Moments. Before: iterations, rate.
                variable.assign(tf.zeros_like(variable))
            optimizer.iterations.assign(0)
        rng = np.random.default_rng(seed)
        x, y = task.data(rng, train_count)
        x_test, y_test = (task.test_data or task.data)(rng, test_count)
        options = {"batch_size": task.batch, "verbose": 0}
        start = time.perf_counter()
        if task.stateful:
            losses = []
            for _ in range(epochs):
                reset_states(model)
                losses += model.fit(x, y, shuffle=False, **options).history["loss"]
            reset_states(model)
        else:
            losses = model.fit(x, y, epochs=epochs, **options).history["loss"]
        seconds = time.perf_counter() - start
        held_out = model.evaluate(x_test, y_test, **options)
        runs.append(
            {
                "task": task_name, "layer": layer_name, "recipe": recipe, "rate": rate,
                "seed": seed, "first": losses[0], "last": losses[-1], "held_out": held_out,
                "seconds": round(seconds, 2),
            }
        )  # fmt: skip
    return runs


def reset_states(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states() if hasattr(layer, "reset_states") else layer.reset_state()


def jobs_of(arguments, done):
    """Lists the arguments of `train` for the runs that are not done yet, longest runs first."""
    jobs = []
    for layer in arguments.layers:
        known = recipes_of(layer)
        recipes = known if arguments.recipes == ["all"] else arguments.recipes
        for recipe in (recipe for recipe in recipes if recipe in known):
            for task in arguments.tasks:
                for rate in arguments.rates:
                    runs = ((task, layer, recipe, rate, seed) for seed in range(arguments.seeds))
                    seeds = [run[-1] for run in runs if run not in done]
                    # The LSTM's runs take minutes: one a job.
                    groups = [[seed] for seed in seeds] if layer == "LSTM" else [seeds]
                    for group in filter(None, groups):
                        jobs.append((task, layer, recipe, rate, group, arguments.quick))
    return sorted(jobs, key=lambda job: (job[1] != "LSTM", -TASKS[job[0]].steps))


def summary(runs):
    """A Markdown table of the held-out loss of each task and recipe at the best learning rate."""
    best = best_losses(runs)
    tasks = [task for task in TASKS if any(key[0] == task for key in best)]
    columns = list(dict.fromkeys(key[1:] for key in best))
    lines = ["| task | " + " | ".join(f"{layer}, {recipe}" for layer, recipe in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for task in tasks:
        row = [f"{best[task, *c]:.2g}" if (task, *c) in best else "" for c in columns]
        lines.append(f"| {task} | " + " | ".join(row) + " |")
    ratios = [geometric_mean(best, tasks, column) for column in columns]
    lines.append("| geometric mean over LSTM's | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


def geometric_mean(best, tasks, column):
    """The geometric mean of the losses divided by the LSTM's, both at least LEAST_LOSS."""
    ratios = [
        max(best[task, *column], LEAST_LOSS) / max(best[task, "LSTM", "default"], LEAST_LOSS)
        for task in tasks
        if (task, *column) in best and (task, "LSTM", "default") in best
    ]
    return f"{np.exp(np.mean(np.log(ratios))):.2f}" if ratios else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=[*LAYERS])
    parser.add_argument("--recipes", nargs="+", default=["default"], help='or "all"')
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="two epochs of one batch")
    parser.add_argument("--output", type=Path, help="JSON; runs that are in it are not repeated")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tasks, arguments.rates = ["adding", "stateful forecast"], [0.01]
        arguments.seeds = 1
    result = {"environment": environment(arguments.commit), "minutes": 0, "runs": []}
    if arguments.output and arguments.output.exists():
        result = json.loads(arguments.output.read_text())
    done = {(r["task"], r["layer"], r["recipe"], r["rate"], r["seed"]) for r in result["runs"]}
    jobs = jobs_of(arguments, done)
    start, before = time.perf_counter(), result["minutes"]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(arguments.processes, context) as pool:
        futures = [pool.submit(train, *job) for job in jobs]
        for i, future in enumerate(concurrent.futures.as_completed(futures)):
            runs = future.result()
            result["runs"] += runs
            minutes = (time.perf_counter() - start) / 60
            result["minutes"] = round(before + minutes, 1)
            run, held_out = runs[0], np.mean([run["held_out"] for run in runs])
            print(
                f"{i + 1} of {len(jobs)}, {minutes:.1f} min: {run['task']}, {run['layer']}, "
                f"{run['recipe']}, rate {run['rate']}: first {run['first']:.3g}, "
                f"held out {held_out:.3g} ({run['seconds']} s a run)",
                flush=True,
            )
            if arguments.output:
                arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{result['minutes']} minutes, {arguments.processes} processes\n")
    print(summary(result["runs"]))
    if arguments.output:
        from plot import draw

        draw(result, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
