# SPDX-License-Identifier: MIT
"""Table 1 of the paper: what the parallel kernel gains over a serial one, one sequence.

    make table1                              # the kernels: needs nvcc, a GPU, and PyTorch
    python benchmarks/table1.py --op         # the op in TensorFlow, on a GPU or a CPU

The forward kernels are timed in replayed CUDA graphs, in float32. Ours are first checked against a
float64 recurrence, and the rivals against ours. The *rival* is the usual serial kernel in its plain
form, with one thread per feature; *ahead* is the same kernel, written so that the compiler may load
steps before it needs them. Then follow our own algorithms. The paper's numbers were measured on a
K80 (Martin and Cundy, ICLR 2018, table 1).
"""

import argparse
import json
import math
from pathlib import Path

from environment import environment

PAPER = {
    (16, 4): 0.06, (16, 32): 0.06, (16, 128): 0.05, (256, 4): 0.22, (256, 32): 0.22,
    (256, 128): 0.86, (4096, 4): 1.02, (4096, 32): 2.94, (4096, 128): 3.36, (65_536, 4): 38.5,
    (65_536, 32): 41.8, (65_536, 128): 17.5,
}  # fmt: skip
STEPS, FEATURES = (16, 256, 4096, 65_536, 1_048_576), (4, 32, 128)
ALGORITHMS = ("serial", "parallel", "auto")


def kernel_times(library):
    """A function (steps, features) -> {name: microseconds}."""
    import ctypes

    import torch
    from gpu_kernel import Call, Engine, check, microseconds, sets_of_arrays

    engine = Engine(library)
    run_rival = ctypes.CDLL(str(library)).tf_plr_gpu_one_thread_a_column
    run_rival.restype = ctypes.c_char_p

    def rival(decays, impulses, states, ahead=False):
        call = Call(1, *decays.shape[1:])
        call.inputs[0], call.inputs[1] = decays.data_ptr(), impulses.data_ptr()
        call.outputs[0] = states.data_ptr()

        def launch():
            call.stream = torch.cuda.current_stream().cuda_stream
            error = run_rival(ctypes.byref(call), ctypes.c_bool(ahead))
            if error is not None:
                raise RuntimeError(error.decode())

        return launch

    def times(steps, features):
        shape = (1, steps, features)
        sets, _ = sets_of_arrays(shape, torch.float32)
        arrays = [
            [torch.rand(shape, device="cuda") for _ in range(2)]
            + [torch.full(shape, float("nan"), device="cuda")]
            for _ in range(min(sets, 4))
        ]
        found = {"rival": microseconds([rival(*a) for a in arrays])}
        by_rival = arrays[0][2].clone()
        arrays[0][2].fill_(float("nan"))
        found["ahead"] = microseconds([rival(*a, ahead=True) for a in arrays])
        assert torch.equal(arrays[0][2], by_rival), "the rivals differ"
        for algorithm in ALGORITHMS:
            check(engine, shape, False, torch.float32, algorithm)
            arrays[0][2].fill_(float("nan"))
            launchers = [engine.launcher(False, a[:2], a[2:], algorithm) for a in arrays]
            found[algorithm] = microseconds(launchers)
        error = (arrays[0][2] - by_rival).abs().max() / by_rival.abs().max()
        assert error < 1e-4, f"the rival differs by {error:.1e}"
        return found

    return times


def op_times(seconds):
    """The same for the op, in chained calls in a tf.function, so that Python takes no time."""
    import tensorflow as tf
    from layers import median_ms

    import tf_plr

    calls, rounds = 16, 5

    @tf.function
    def run(decays, states, algorithm):
        for _ in range(calls):
            states = tf_plr.linear_recurrence(decays, states, axis=1, algorithm=algorithm)
        return states[0, -1]

    def times(steps, features):
        arguments = tf.random.uniform([1, steps, features]), tf.random.normal([1, steps, features])
        # Algorithms take turns, so that a disturbance affects all of them. Take each one's best.
        found = dict.fromkeys(ALGORITHMS, math.inf)
        for _ in range(rounds):
            for algorithm, us in found.items():
                ms = median_ms(lambda a=algorithm: run(*arguments, a), seconds / rounds)
                found[algorithm] = min(us, 1e3 * ms / calls)
        return found

    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--library", type=Path, default=root / "build" / "libtf_plr_kernels.so")
    parser.add_argument("--op", action="store_true", help="the op instead of the kernels")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each number of the op")
    parser.add_argument("--quick", action="store_true", help="the op, up to 4,096 steps")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    on_op = arguments.op or arguments.quick
    seconds = 0.02 if arguments.quick else arguments.seconds
    times = op_times(seconds) if on_op else kernel_times(arguments.library.resolve())
    of = "op" if on_op else "kernels"
    result = {"environment": environment(arguments.commit), "of": of, "rows": []}
    print(json.dumps(result["environment"]))
    over = ("serial",) if on_op else ("rival", "ahead", "serial")
    print(f"{of}: parallel over each serial one; auto over the better of serial and parallel")
    heads = "".join(f"{name:>9}" for name in over)
    print(f"{'steps':>10} {'features':>8}{heads} {'auto/best':>9} {'paper':>6}")
    for steps in [s for s in STEPS if not arguments.quick or s <= 4096]:
        for features in FEATURES:
            us = times(steps, features)
            result["rows"].append({"steps": steps, "features": features, **us})
            best = min(us["serial"], us["parallel"])
            print(
                f"{steps:>10,} {features:>8}"
                + "".join(f"{us[name] / us['parallel']:9.2f}" for name in over)
                + f" {best / us['auto']:9.2f} "
                f"{PAPER.get((steps, features), ''):>6}",
                flush=True,
            )
            if arguments.output:
                arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
