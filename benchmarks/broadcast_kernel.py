# SPDX-License-Identifier: MIT
"""Decays that are broadcast, on a GPU, without TensorFlow, against this GPU's own memory speed.

    make broadcast-benchmark        # needs nvcc, a GPU, and PyTorch

Results are checked against a float64 recurrence before they are timed. Times are those of
gpu_kernel.py. Two arrays of the shape are moved in each pass, and the decays. "Over an add" is the
time over that of an add of two arrays into a third that moves as many bytes; "over a product" over
that of a product with a number, which reads as much as it writes, as two of the passes do.
"""

import argparse
import ctypes
import json
from pathlib import Path

from environment import environment
from gpu_kernel import ALGORITHMS, DTYPES, ROOT, Call, exact, memory_limit, microseconds, torch

# batch x time x features, and the axes that decays have: of batch, time and features.
SHAPES = [(16, 8192, 256), (32, 2048, 1024), (1, 65_536, 256), (256, 8192, 1), (8, 65_536, 768)]
AXES = {
    "one decay": (0, 0, 0), "one for each feature": (0, 0, 1), "one for each sequence": (1, 0, 0),
    "one for each step": (0, 1, 0), "one for each step of a sequence": (1, 1, 0),
}  # fmt: skip
PASSES = ("states", "d_impulses", "d_decays")


class DecayAxes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_bool) for name in ("outer", "steps", "inner")]


class Engine:
    def __init__(self, path):
        self._run = ctypes.CDLL(str(path)).tf_plr_gpu_run_broadcast
        self._run.restype = ctypes.c_char_p

    def launcher(self, name, axes, inputs, output, shape, reverse=False):
        call = Call(*shape, int(reverse), ALGORITHMS.index("auto"))
        for i, tensor in enumerate(inputs):
            call.inputs[i] = tensor.data_ptr()
        call.outputs[0] = output.data_ptr()
        dtype, number = DTYPES.index(output.dtype), PASSES.index(name)
        axes, size = DecayAxes(*map(bool, axes)), ctypes.c_size_t()
        self._run(dtype, number, ctypes.byref(call), ctypes.byref(axes), ctypes.byref(size))
        workspace = torch.empty(max(1, size.value), dtype=torch.uint8, device="cuda")
        call.workspace, call.workspace_bytes = workspace.data_ptr(), size.value

        def launch():
            call.stream = torch.cuda.current_stream().cuda_stream
            error = self._run(dtype, number, ctypes.byref(call), ctypes.byref(axes), None)
            if error is not None:
                raise RuntimeError(error.decode())

        launch.kept = workspace, inputs, output
        return launch


def launchers(engine, shape, axes, dtype):
    """A launcher for each pass. Each has made its results, which are right."""
    sizes = [size if kept else 1 for size, kept in zip(shape, axes, strict=True)]
    a = (torch.rand(sizes, device="cuda") * 0.5 + 0.5).to(dtype)
    x = torch.randn(shape, device="cuda").to(dtype)
    d = torch.randn(shape, device="cuda").to(dtype)
    y, d_x, d_a = torch.empty_like(x), torch.empty_like(x), torch.empty_like(a)
    made = {
        "states": engine.launcher("states", axes, [a, x], y, shape),
        "d_impulses": engine.launcher("d_impulses", axes, [a, d], d_x, shape, reverse=True),
        "d_decays": engine.launcher("d_decays", axes, [y, d_x], d_a, shape),
    }
    for launch in made.values():
        launch()
    # A part, so that float64 fits into memory. Sums need all of it.
    few = slice(0, max(1, 40_000_000 // (shape[1] * shape[2])))
    decays = a.expand(shape)[few]
    states = exact(decays, x[few])
    shifted = torch.cat([decays[:, 1:], torch.zeros_like(decays[:, :1])], 1)
    gradients = exact(shifted.flip(1), d[few].flip(1)).flip(1)
    sums, scale = (torch.zeros(sizes, device="cuda", dtype=torch.float64) for _ in range(2))
    summed = [axis for axis, kept in enumerate(axes) if not kept]
    for i in range(shape[0]):
        products = y[i : i + 1, :-1].double() * d_x[i : i + 1, 1:].double()
        products = torch.cat([torch.zeros_like(products[:, :1]), products], 1)
        over = [axis for axis in (1, 2) if axis in summed]
        for to, terms in ((sums, products), (scale, products.abs())):
            to[i if axes[0] else 0] += (terms.sum(over, keepdim=True) if over else terms)[0]
    tolerance = {2: 0.05, 4: 1e-4}[dtype.itemsize]
    for name, actual, expected, terms in (
        ("states", y[few], states, states), ("d_impulses", d_x[few], gradients, gradients),
        ("d_decays", d_a, sums, scale),
    ):  # fmt: skip
        error = (actual.double() - expected).abs().max() / terms.abs().max()
        if not error < tolerance:
            raise AssertionError(f"{name} is wrong by {error:.1e} at {shape}, {axes}, {dtype}")
    return made, a.nbytes


def product_limit():
    """GB/s of a product with a number, which reads as much as it writes."""
    a, b = (torch.rand(1 << 28, device="cuda") for _ in range(2))
    return 2 * a.nbytes / microseconds([lambda: torch.mul(a, 0.5, out=b)]) / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libtf_plr_kernels.so")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", default="", help="to record where there is no git")
    arguments = parser.parse_args()
    engine = Engine(arguments.library)
    memory = {**memory_limit(), "product": product_limit()}
    result = {"environment": environment(arguments.commit), "memory_gb_per_s": memory, "rows": []}
    print(json.dumps(result["environment"]), json.dumps(memory))
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            for kind, axes in AXES.items():
                size = shape[0] * shape[1] * shape[2] * dtype.itemsize
                copies = max(1, min(4, 600_000_000 // (5 * size)))
                made = [launchers(engine, shape, axes, dtype) for _ in range(copies)]
                for name in PASSES:
                    us = microseconds([launch[name] for launch, _ in made])
                    moved = 2 * size + made[0][1]
                    row = {
                        "shape": shape, "decays": kind, "pass": name, "dtype": str(dtype)[6:],
                        "us": us, "gb_per_s": moved / us / 1e3,
                        "over_an_add": us / (moved / memory["add"] / 1e3),
                        "over_a_product": us / (moved / memory["product"] / 1e3),
                    }  # fmt: skip
                    result["rows"].append(row)
                    print(
                        f"{'x'.join(map(str, shape)):>13} {row['dtype']:>8} {kind:>31} {name:>10} "
                        f"{us:8.1f} us {row['gb_per_s']:6.0f} GB/s, over an add "
                        f"{row['over_an_add']:.2f}, a product {row['over_a_product']:.2f}",
                        flush=True,
                    )  # fmt: skip
                del made
                torch.cuda.empty_cache()
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
