# SPDX-License-Identifier: MIT
"""How the initial biases decide what a net can remember: one bit over T steps.

    python benchmarks/memory.py [--steps 784 1024 8192] [--output RESULTS.json]

The problem is that of one_bit.py. Two LS-LSTM layers are trained with Adam, with gradients clipped
to norm 1. Each recipe for the initial biases runs with several seeds.
"""

import argparse
import json
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from environment import environment
from one_bit import Trainer

import tf_plr
from tf_plr.initializers import Chrono, TimeScales

OPEN = {"input_bias": None}  # Half open, as all other biases start at zero.
NORMALIZED, COUPLED = {"input_bias": "normalized"}, {"input_bias": "coupled"}
LN = {"layer_normalization": True}


def log_t(steps):
    return {"forget_bias": math.log(steps)}


def chrono(steps):
    return {"forget_bias": Chrono(steps)}


# {name: function from a number of steps to the arguments for a memory of that length}.
RECIPES = {
    "default": lambda steps: {},
    "time scales": lambda steps: {"forget_bias": TimeScales(steps), **NORMALIZED},
    "time scales, LN": lambda steps: {"forget_bias": TimeScales(steps), **NORMALIZED, **LN},
    "paper": lambda steps: {"forget_bias": 5.0, **OPEN},
    "log T": lambda steps: {**log_t(steps), **OPEN},
    "log T, coupled": lambda steps: {**log_t(steps), **COUPLED},
    "log T, normalized": lambda steps: {**log_t(steps), **NORMALIZED},
    "Chrono": lambda steps: {**chrono(steps), **OPEN},
    "Chrono, coupled": lambda steps: {**chrono(steps), **COUPLED},
    "Chrono, normalized": lambda steps: {**chrono(steps), **NORMALIZED},
    "log T, normalized, LN": lambda steps: {**log_t(steps), **NORMALIZED, **LN},
    "Chrono, normalized, LN": lambda steps: {**chrono(steps), **NORMALIZED, **LN},
    "log T, LN": lambda steps: {**log_t(steps), **OPEN, **LN},
    "log T, coupled, LN": lambda steps: {**log_t(steps), **COUPLED, **LN},
}


def layer_of(recipe, steps):
    """Returns a function that makes a layer; each layer gets new initializers from `recipe`."""
    return lambda units, **options: tf_plr.LinearSurrogateLSTM(units, **recipe(steps), **options)


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
                        layer_of(lambda _, on=normalized: {"layer_normalization": on}, steps),
                        arguments.units,
                        steps,
                        arguments.batch,
                        rate,
                    )
                    seconds = trainers[normalized].compile()
                    print(f"T = {steps:,}: compiled in {seconds:.0f} s", flush=True)
                trainer = trainers[normalized]
                for seed in range(arguments.seeds):
                    layer = layer_of(RECIPES[name], steps)
                    learned, seconds, losses = trainer.run(layer, seed, arguments.iterations)
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
