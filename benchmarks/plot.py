# SPDX-License-Identifier: MIT
"""Draws results of cpu.py, defaults.py, distributed.py, gpu_kernel.py, layers.py or memory.py.

python benchmarks/plot.py RESULTS.json PICTURE.png
"""

import argparse
import json
import textwrap
from pathlib import Path

import numpy as np

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
except ImportError:
    matplotlib = None  # --help works without it.


def label(shape):
    return " x ".join(f"{n:,}" for n in shape)


def colours(names):
    """One for each contender, tf_plr's in blues, the same in every panel."""
    ours = [name for name in names if name.startswith("tf_plr")]
    others = [name for name in names if name not in ours]
    blues = matplotlib.colormaps["Blues"](np.linspace(0.9, 0.45, max(1, len(ours))))
    rest = [matplotlib.colormaps["Dark2"](i) for i in range(8)]
    rest += [matplotlib.colormaps["Set3"](i) for i in range(12)]
    return dict(zip([*ours, *others], [*blues, *rest], strict=False))


def bars(axes, shapes, series, of_name, unit):
    """series: {name: {shape: value}}."""
    width = 0.85 / len(series)
    for i, (name, values) in enumerate(series.items()):
        places = [j + i * width for j, shape in enumerate(shapes) if shape in values]
        heights = [values[s] for s in shapes if s in values]
        axes.barh(places, heights, width, label=name, color=of_name[name])
    axes.set_yticks([j + 0.4 - width / 2 for j in range(len(shapes))], map(label, shapes))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel(unit)


def series_of(rows, name, value):
    series = {}
    for row in rows:
        if row.get(value) is not None:
            series.setdefault(name(row), {})[tuple(row["shape"])] = row[value]
    return series


def draw_op(result):
    rows = result["rows"]
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    gpu = "algorithm" in rows[0]
    if gpu:
        rows = [row for row in rows if row["algorithm"] == "auto"]
    name, value = ("dtype", "percent") if gpu else ("contender", "ms")
    of_name = colours(list(dict.fromkeys(row[name] for row in rows)))
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    height = 2 + len(shapes) * max(0.35, 0.13 * len(of_name))
    figure, axes = plt.subplots(
        1, len(passes), figsize=(7 * len(passes), height), sharey=True, layout="constrained"
    )
    for of_pass, kind in zip(axes, passes, strict=True):
        chosen = [row for row in rows if row["pass"] == kind]
        series = series_of(chosen, lambda row: row[name], value)
        bars(of_pass, shapes, series, of_name, "percent of the memory's rate" if gpu else "ms")
        of_pass.set_title(kind)
        if not gpu:
            of_pass.set_xscale("log")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in of_name.values()]
    figure.legend(handles, of_name, loc="outside lower center", ncols=4)
    return figure


def draw_memory(result):
    """Draws the losses of every run: one row of panels per length, one column per recipe."""
    runs = result["runs"]
    lengths = list(dict.fromkeys(run["steps"] for run in runs))
    recipes = list(dict.fromkeys(run["recipe"] for run in runs))
    figure, grid = plt.subplots(
        len(lengths), len(recipes), figsize=(2.9 * len(recipes), 2.4 * len(lengths)),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for i, steps in enumerate(lengths):
        for j, recipe in enumerate(recipes):
            chosen = [r for r in runs if r["steps"] == steps and r["recipe"] == recipe]
            for run in chosen:
                learned = run["learned"]
                iterations = np.arange(len(run["losses"])) * run["every"]
                colour = "tab:blue" if learned else "tab:red"
                losses = np.maximum(run["losses"], 1e-4)
                grid[i, j].plot(iterations, losses, color=colour, linewidth=1)
                if learned:
                    grid[i, j].plot(iterations[-1], losses[-1], "o", color=colour, markersize=4)
            count = sum(run["learned"] is not None for run in chosen)
            said = f"{count} of {len(chosen)} learned" if chosen else "not run"
            grid[i, j].set_title(f"{recipe}, T = {steps:,}\n{said}", fontsize="small")
            grid[i, j].set_yscale("log")
            grid[i, j].grid(alpha=0.3)
            if i == len(lengths) - 1:
                grid[i, j].set_xlabel("iterations")
        grid[i, 0].set_ylabel("loss")
    return figure


def draw_steps(result):
    """Training steps over their floor, with XLA and without."""
    rows = [row for row in result["steps"] if "floor" in row]
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    shapes = list(dict.fromkeys((row["batch"], row["steps"]) for row in rows))
    names = list(dict.fromkeys(row["layer"] for row in rows))
    figure, grid = plt.subplots(
        len(dtypes), len(shapes), figsize=(3.2 * len(shapes), 2.6 * len(dtypes)),
        sharey=True, sharex=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for i, dtype in enumerate(dtypes):
        for j, shape in enumerate(shapes):
            axes = grid[i, j]
            for k, (of, label_) in enumerate((("xla", "XLA"), ("no_xla", "without"))):
                chosen = {
                    row["layer"]: row[of] / sum(row["floor"].values())
                    for row in rows
                    if (row["dtype"], row["batch"], row["steps"]) == (dtype, *shape) and of in row
                }
                places = [names.index(name) + 0.4 * k for name in chosen]
                axes.barh(places, list(chosen.values()), 0.4, label=label_, color=f"C{k}")
            axes.axvline(1, color="black", linewidth=1)
            axes.set_yticks([n + 0.2 for n in range(len(names))], names)
            axes.set_title(f"{shape[0]} x {shape[1]:,}, {dtype}", fontsize="small")
            axes.grid(axis="x", alpha=0.3)
            axes.set_axisbelow(True)
    grid[0, 0].invert_yaxis()
    grid[0, 0].legend(fontsize="small")
    figure.supxlabel("a training step over its floor: products alone, and the least traffic")
    return figure


def draw_heat_map(result):
    """Draws each layer's steps per second over the LSTM's, by batch size and length."""
    rows = result["heat_map"]
    known = ("batch", "steps", "units", "lstm_steps", "keras LSTM")
    names = [name for name in rows[0] if name not in known]
    batches = sorted({row["batch"] for row in rows})
    lengths = sorted({row["steps"] for row in rows})
    across = min(3, len(names))
    down = -(-len(names) // across)
    width, height = 1 + 0.7 * len(lengths) * across, 0.7 + (0.8 + 0.4 * len(batches)) * down
    figure, grid = plt.subplots(
        down, across, figsize=(width, height), sharey=True, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        ratios = np.full((len(batches), len(lengths)), np.nan)
        for row in rows:
            rates = row[name], row["keras LSTM"]
            if all(isinstance(rate, float) for rate in rates):
                at = batches.index(row["batch"]), lengths.index(row["steps"])
                ratios[at] = rates[0] / rates[1]
        axes.imshow(np.log10(ratios), cmap="viridis", aspect="auto", vmin=0, vmax=3)
        for (i, j), ratio in np.ndenumerate(ratios):
            if np.isfinite(ratio):
                text = f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"
                colour = "white" if ratio < 30 else "black"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize="small")
        axes.set_xticks(range(len(lengths)), [f"{n:,}" for n in lengths], fontsize="small")
        axes.set_yticks(range(len(batches)), batches)
        axes.set_title(name, fontsize="medium")
    figure.supylabel("batch")
    figure.supxlabel("steps of a sequence; colours and numbers: times keras.layers.LSTM")
    return figure


def draw_replicas(result):
    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    environment = result["environment"]
    measured = f"{environment['replicas']} replicas on {max(1, environment['gpus'])} GPU(s)"
    for i, row in enumerate(result["predicted"]):
        counts = row["replicas"]
        for (exchange, times), dashes in zip(row["ms"].items(), ("-", "--"), strict=True):
            axes.plot(
                counts, times[0] / np.array(times), dashes, color=f"C{i}",
                label=f"{row['steps']:,}, {float(exchange):g} ms",
            )  # fmt: skip
    axes.plot(counts, counts, "k:", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel=f"GPUs; predicted from {measured}",
             ylabel="a sequence's training step: times one GPU, no XLA")  # fmt: skip
    axes.set_xticks(counts, counts, fontsize="small")
    axes.minorticks_off()
    axes.legend(fontsize="small", title="steps, an exchange", title_fontsize="small")
    axes.grid(alpha=0.3)
    return figure


def draw_defaults(result):
    """Draws each task's held-out losses over the LSTM's, each at its best learning rate."""
    from small_tasks import LEAST_LOSS, best_losses

    best = best_losses(result["runs"])
    columns = [c for c in dict.fromkeys(key[1:] for key in best) if c[0] != "LSTM"]
    tasks = list(dict.fromkeys(key[0] for key in best))
    figure, axes = plt.subplots(figsize=(10, 1 + 0.45 * len(tasks)), layout="constrained")
    for i, column in enumerate(columns):
        ratios = [
            max(best.get((task, *column), np.nan), LEAST_LOSS)
            / max(best[task, "LSTM", "default"], LEAST_LOSS)
            for task in tasks
        ]
        places = np.arange(len(tasks)) + 0.3 * (i / max(1, len(columns) - 1) - 0.5)
        label = column[0] if column[1] == "default" else ", ".join(column)
        axes.plot(ratios, places, "o", label=label)
    axes.axvline(1, color="black", linewidth=1, label="keras.layers.LSTM")
    axes.set(xscale="log", xlabel="held-out loss / that of keras.layers.LSTM (less is better)")
    axes.set_yticks(range(len(tasks)), tasks)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return figure


def draw(result, picture):
    drawers = {
        "minutes": draw_defaults,
        "predicted": draw_replicas, "runs": draw_memory, "steps": draw_steps,
        "heat_map": draw_heat_map,
    }  # fmt: skip
    figure = next((drawers[k] for k in drawers if k in result), draw_op)(result)
    environment = result["environment"]
    known = ("gpu", "cpu", "threads", "driver", "cuda", "tensorflow", "commit", "date")
    said = ", ".join(f"{k} {environment[k]}" for k in known if environment.get(k))
    width = int(figure.get_figwidth() * 14)  # Characters.
    figure.suptitle(textwrap.fill(said, width), fontsize="small")
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="a JSON file of a benchmark")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    arguments = parser.parse_args()
    draw(json.loads(arguments.results.read_text()), arguments.picture)
