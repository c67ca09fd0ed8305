# SPDX-License-Identifier: MIT
"""Table 3 of the paper: remembering one bit over T steps, and on to 16,777,216.

    python benchmarks/table3.py [--steps 1024 8192 1048576] [--quick] [--output RESULTS.json]

The problem is that of one_bit.py; the stopping rule is the paper's. GILR-LSTM learns with the
initial biases of docs/memory.md, which are arguments of the layer. The LSTM is keras.layers.LSTM
with its own defaults (cuDNN on a GPU), trained for at most --lstm-seconds. With --output, runs that
the file already has are not repeated, an interrupted run resumes from its last checkpoint, and the
learning curves are drawn beside the file.
"""

import argparse
import json
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from environment import environment
from one_bit import Trainer

import tf_plr

# T: units, batch, learning rate, steps that fit into memory at once.
SETTINGS = {
    64: (32, 16, 0.01, None),  # Of --quick.
    1024: (512, 16, 0.003, None),
    8192: (512, 16, 0.003, None),
    1_048_576: (64, 4, 0.003, None),
    16_777_216: (64, 4, 0.003, 1_048_576),
}
# T: iterations / 1,000, and hours on a K80: cuDNN LSTM, GILR-LSTM (Martin and Cundy, ICLR 2018).
PAPER = {
    1024: ("1.0 ± 0.4; 0.28 ± 0.08", "0.55 ± 0.04; 0.031 ± 0.002"),
    8192: ("0.44 ± 0.05; 0.58 ± 0.06", "0.56 ± 0.16; 0.10 ± 0.03"),
    1_048_576: ("never", "14 ± 3; 9.7 ± 1.7"),
}


def gilr_lstm(steps):
    def layer(units, **options):
        return tf_plr.GILRLSTM(
            units,
            forget_bias=math.log(steps),
            input_bias="normalized",
            layer_normalization=True,
            **options,
        )

    return layer


def summary(runs):
    """Iterations and seconds, mean and standard deviation, of the runs that learned."""
    learned = [run for run in runs if run["learned"]]
    text = f"{len(learned)} of {len(runs)}"
    for key, unit in (("learned", "iterations"), ("seconds", "s")):
        if learned:
            values = [run[key] for run in learned]
            text += f"; {np.mean(values):,.4g} ± {np.std(values):,.3g} {unit}"
    a_second = [run["iterations"] / run["seconds"] for run in runs]
    return text + f"; {1e3 / np.mean(a_second):,.2f} ms an iteration"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--steps", type=int, nargs="+", choices=SETTINGS, default=[1024, 8192, 1_048_576]
    )
    parser.add_argument("--models", nargs="+", choices=("GILR-LSTM", "LSTM"), default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=1500, help="at most, in a run")
    parser.add_argument(
        "--dtype-policy", default="float32", help="of the nets, such as mixed_bfloat16"
    )
    parser.add_argument("--lstm-seconds", type=float, default=30, help="at most, in an LSTM's run")
    parser.add_argument("--quick", action="store_true", help="64 steps, for a CPU")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.seeds, arguments.lstm_seconds = [64], 1, 1
    policy = arguments.dtype_policy
    keras.config.set_dtype_policy(policy)
    result = {"environment": environment(arguments.commit), "runs": []}
    if arguments.output and arguments.output.exists():
        result = json.loads(arguments.output.read_text())
    print(json.dumps(result["environment"]))
    for steps in arguments.steps:
        units, batch, rate, chunk = SETTINGS[steps]
        for name in arguments.models or ("GILR-LSTM", "LSTM"):
            ours = name == "GILR-LSTM"
            if not ours and steps > 65_535:
                continue  # cuDNN refuses such lengths, and an iteration would take minutes.
            layer = gilr_lstm(steps) if ours else keras.layers.LSTM
            recipe = name if policy == "float32" else f"{name}, {policy}"
            chosen = [r for r in result["runs"] if (r["steps"], r["recipe"]) == (steps, recipe)]
            seeds = [s for s in range(arguments.seeds) if s not in [run["seed"] for run in chosen]]
            if seeds:
                trainer = Trainer(layer, units, steps, batch, rate, chunk=chunk, jit_compile=ours)
                compile_seconds = trainer.compile()
            for seed in seeds:
                limit = math.inf if ours else arguments.lstm_seconds
                checkpoint = None
                if arguments.output:
                    run = f".{steps}.{name}.{policy}.{seed}.npz"
                    checkpoint = arguments.output.with_suffix(run)
                learned, seconds, losses = trainer.run(
                    layer, seed, arguments.iterations, limit, checkpoint
                )
                every = max(1, len(losses) // 200)
                chosen.append(
                    {
                        "steps": steps, "units": units, "batch": batch, "rate": rate,
                        "recipe": recipe, "seed": seed, "learned": learned,
                        "iterations": len(losses), "seconds": round(seconds, 3),
                        "compile_seconds": round(compile_seconds, 1), "every": every,
                        "losses": [round(loss, 4) for loss in losses[::every]],
                    }
                )  # fmt: skip
                result["runs"].append(chosen[-1])
                if arguments.output:
                    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
                    checkpoint.unlink(missing_ok=True)
            paper = PAPER.get(steps, ("", ""))[ours]
            print(
                f"\nT = {steps:,}, {recipe}, 2 x {units}, batch {batch}: {summary(chosen)}; "
                f"compiled in {chosen[0]['compile_seconds']} s (the paper's iterations / 1,000 "
                f"and hours: {paper or 'none'})",
                flush=True,
            )
    if arguments.output:
        from plot import draw

        draw(result, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
