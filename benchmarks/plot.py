# SPDX-License-Identifier: MIT
"""Draws results of cpu.py or gpu_kernel.py: python benchmarks/plot.py RESULTS.json PICTURE.png"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def label(shape):
    return " x ".join(f"{n:,}" for n in shape)


def bars(axes, shapes, series, unit):
    """series: {name: {shape: value}}."""
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        places = [j + i * width for j, shape in enumerate(shapes) if shape in values]
        axes.barh(places, [values[s] for s in shapes if s in values], width, label=name)
    axes.set_yticks([j + 0.4 - width / 2 for j in range(len(shapes))], map(label, shapes))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.legend(fontsize="small")


def series_of(rows, name, value):
    series = {}
    for row in rows:
        if row.get(value) is not None:
            series.setdefault(name(row), {})[tuple(row["shape"])] = row[value]
    return series


def draw(result, picture):
    rows = result["rows"]
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    gpu = "algorithm" in rows[0]
    figure, axes = plt.subplots(1, len(passes), figsize=(8 * len(passes), 9))
    for of_pass, kind in zip(axes, passes, strict=True):
        chosen = [row for row in rows if row["pass"] == kind]
        if gpu:
            chosen = [row for row in chosen if row["algorithm"] == "auto"]
            series = series_of(chosen, lambda row: row["dtype"], "percent")
        else:
            series = series_of(chosen, lambda row: row["contender"], "ms")
            of_pass.set_xscale("log")
        shapes = list(dict.fromkeys(tuple(row["shape"]) for row in chosen))
        bars(of_pass, shapes, series, "percent of the memory limit" if gpu else "ms")
        of_pass.set_title(kind)
    environment = result["environment"]
    known = ("gpu", "cpu", "threads", "driver", "cuda", "tensorflow", "commit", "date")
    figure.suptitle(", ".join(f"{k} {environment[k]}" for k in known if k in environment))
    figure.tight_layout()
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
