# SPDX-License-Identifier: MIT
"""The fused cells' GPU kernels without TensorFlow, against this GPU's own memory speed.

    make gated-benchmark      # needs nvcc, a GPU, and PyTorch

As in gpu_kernel.py, each result is checked against a float64 computation (and PyTorch's gradient
of it) before it is timed, and kernels are timed in a replayed CUDA graph. Rates count the least
possible traffic: each block of the product, each state and each output once. The limit is the rate
of an add.
"""

import argparse
import ctypes
import json
from pathlib import Path
from typing import NamedTuple

from environment import environment
from gpu_kernel import (
    ALGORITHMS,
    DTYPES,
    ROOT,
    Call,
    exact,
    memory_limit,
    microseconds,
)

try:
    import torch
except ImportError:
    torch = None  # --help works without it.

# Numbered as in cc/engine/cells/activations.h.
ACTIVATIONS = {
    "linear": lambda x: x,
    "tanh": lambda x: torch.tanh(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "relu": lambda x: torch.relu(x),
    "elu": lambda x: torch.nn.functional.elu(x),
    "silu": lambda x: torch.nn.functional.silu(x),
    "gelu": lambda x: torch.nn.functional.gelu(x),
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "softplus": lambda x: torch.nn.functional.softplus(x),
}
# The kernels' own lists, in the order of cc/engine/cells/gated.h: those of fixed functions, then
# those that choose functions at run time (own input gate, output).
FIXED = ["GILR", "surrogate", "QRNN fo", "LS-LSTM", "SRU", "SRU tanh"]
OUTPUTS = ["state", "previous", "gated", "highway"]


class Parts(NamedTuple):
    """What a cell consists of: see the documentation of TfPlr>GatedRecurrence."""

    activation: str
    own: bool
    output: str
    state_activation: str = "linear"


CELLS = {
    "GILR": Parts("elu", False, "state"),
    "surrogate": Parts("tanh", False, "previous"),
    "QRNN fo": Parts("tanh", False, "gated"),
    "LS-LSTM": Parts("tanh", True, "gated"),
    "SRU": Parts("linear", False, "highway"),
}
OTHER_CELLS = {
    "MinGRU": Parts("linear", False, "state"),
    "GILR relu": Parts("relu", False, "state"),
    "GILR gelu": Parts("gelu", False, "state"),
    "SRU tanh": Parts("linear", False, "highway", "tanh"),
    "LS-LSTM silu": Parts("silu", True, "gated"),
}
# batch x time x units
ODD_SHAPES = [(32, 2048, 1023), (16, 8192, 255)]
SHAPES = [(32, 2048, 1024), (16, 8192, 256), (1, 65_536, 256), (256, 1024, 256), (1, 1024, 256)]


class GatedCall(ctypes.Structure):
    _fields_ = [
        ("call", Call),
        ("inputs", ctypes.c_void_p * 8),
        ("outputs", ctypes.c_void_p * 6),
        ("input_strides", ctypes.c_int64 * 8),
        ("output_strides", ctypes.c_int64 * 6),
        ("biases", ctypes.c_void_p * 8),
        ("mask", ctypes.c_void_p),
        ("resets", ctypes.c_void_p),
        ("activation", ctypes.c_int),
        ("state_activation", ctypes.c_int),
        ("gate", ctypes.c_int),
    ]


MEAN_SEQUENCE = 500  # Steps from one reset to the next.


class Cell:
    """One cell on arrays of one shape: `product` holds the blocks side by side."""

    def __init__(self, library, name, shape, dtype, flags=""):
        self.run = library.tf_plr_gpu_run_gated
        self.run.restype = ctypes.c_char_p
        self.parts = {**CELLS, **OTHER_CELLS}[name]
        self.own, self.output = self.parts.own, self.parts.output
        self.number = len(FIXED) + len(OUTPUTS) * self.own + OUTPUTS.index(self.output)
        if name in FIXED:
            self.number = FIXED.index(name)
        self.gated = self.output in ("gated", "highway")
        self.highway = self.output == "highway"
        self.shape, self.dtype = shape, dtype
        batch, steps, units = shape
        self.blocks = 2 + self.own + self.gated
        self.product = torch.randn(batch, steps, self.blocks * units, device="cuda").to(dtype)
        self.x, self.d_h = (torch.randn(shape, device="cuda").to(dtype) for _ in range(2))
        self.bias = torch.randn(self.blocks * units, device="cuda")
        self.h, self.states = (torch.full_like(self.x, float("nan")) for _ in range(2))
        self.d_product = torch.full_like(self.product, float("nan"))
        self.d_x = torch.full_like(self.x, float("nan"))
        chance = torch.rand(batch, steps, device="cuda")
        self.mask = chance < 0.8 if flags == "masked" else None
        self.resets = chance < 1 / MEAN_SEQUENCE if flags == "resets" else None

    def arrays(self, gradient):
        """Inputs and outputs in the order of the cell: (tensor, block or None)."""
        f, z, i, o = 0, 1, 2, 2 + self.own
        own, gated = [(self.product, i)] * self.own, [(self.product, o)] * self.gated
        highway = [(self.x, None)] * self.highway
        if not gradient:
            states = [(self.states, None)] * self.gated
            inputs = [(self.product, f), (self.product, z), *own, *gated, *highway]
            return inputs, [(self.h, None), *states]
        kept = self.states if self.gated else self.h
        inputs = [
            (self.product, f), (self.d_h, None), *gated, (self.product, z), (kept, None), *own,
            *highway,
        ]  # fmt: skip
        outputs = [(self.d_product, block) for block in range(self.blocks)]
        return inputs, [*outputs, *[(self.d_x, None)] * self.highway]

    def bytes(self, gradient):
        inputs, outputs = self.arrays(gradient)
        return (len(inputs) + len(outputs)) * self.x.nbytes

    def launcher(self, gradient, algorithm):
        inputs, outputs = self.arrays(gradient)
        units, itemsize = self.shape[2], self.dtype.itemsize
        gated = GatedCall(Call(*self.shape, int(gradient), ALGORITHMS.index(algorithm)))
        for of, strides, arrays in (
            (gated.inputs, gated.input_strides, inputs),
            (gated.outputs, gated.output_strides, outputs),
        ):
            for k, (tensor, block) in enumerate(arrays):
                of[k] = tensor.data_ptr() + (block or 0) * units * itemsize
                strides[k] = tensor.shape[2]
        for k, (_, block) in enumerate(inputs):
            if block is not None:
                gated.biases[k] = self.bias.data_ptr() + block * units * 4
        number = list(ACTIVATIONS).index
        gated.activation = number(self.parts.activation)
        gated.state_activation = number(self.parts.state_activation)
        gated.mask = None if self.mask is None else self.mask.data_ptr()
        gated.resets = None if self.resets is None else self.resets.data_ptr()
        dtype, size = DTYPES.index(self.dtype), ctypes.c_size_t()
        self.run(dtype, self.number, int(gradient), ctypes.byref(gated), ctypes.byref(size))
        workspace = torch.empty(max(1, size.value), dtype=torch.uint8, device="cuda")
        gated.call.workspace, gated.call.workspace_bytes = workspace.data_ptr(), size.value

        def launch():
            gated.call.stream = torch.cuda.current_stream().cuda_stream
            error = self.run(dtype, self.number, int(gradient), ctypes.byref(gated), None)
            if error is not None:
                raise RuntimeError(error.decode())

        launch.cell, launch.workspace = self, workspace
        return launch

    def check(self, algorithm):
        product = self.product.double().requires_grad_()
        x = self.x.double().requires_grad_()
        f, z, *rest = (product + self.bias).chunk(self.blocks, 2)
        f, closed = f.sigmoid(), (-f).sigmoid()
        candidate = ACTIVATIONS[self.parts.activation](z)
        impulse = (rest.pop(0).sigmoid() if self.own else closed) * candidate
        if self.mask is not None:
            f, impulse = (
                torch.where(self.mask[..., None], a, torch.full_like(a, masked))
                for a, masked in ((f, 1.0), (impulse, 0.0))
            )
        if self.resets is not None:
            f = torch.where(self.resets[..., None], torch.zeros_like(f), f)
        c = exact(f, impulse)
        previous = torch.cat([torch.zeros_like(c[:, :1]), c[:, :-1]], 1)
        if self.resets is not None:
            previous = torch.where(self.resets[..., None], torch.zeros_like(c), previous)
        h = previous if self.output == "previous" else c
        if self.gated:
            o = rest.pop(0).sigmoid()
            h = o * ACTIVATIONS[self.parts.state_activation](c)
            h = h + (1 - o) * x if self.highway else h
            if self.mask is not None:
                h = torch.where(self.mask[..., None], h, torch.zeros_like(h))
        d_h = self.d_h.double()
        if self.mask is not None:
            self.d_h *= self.mask[..., None]
            d_h = self.d_h.double()
        h.backward(d_h)
        self.launcher(False, algorithm)()
        self.launcher(True, algorithm)()
        torch.cuda.synchronize()
        pairs = [(self.h, h.detach()), (self.d_product, product.grad)]
        pairs += [(self.d_x, x.grad)] * self.highway
        tolerance = {2: 0.05, 4: 1e-4}[self.dtype.itemsize]
        for actual, expected in pairs:
            error = (actual.double() - expected).abs().max() / expected.abs().max()
            if not error < tolerance:
                raise AssertionError(f"wrong by {error:.1e}: {self.shape}, {algorithm}")


def timed(library, name, shape, dtype, algorithm, flags, limit):
    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
    sets = max(1, min(4, 500_000_000 // (4 * size)))
    cells = [Cell(library, name, shape, dtype, flags) for _ in range(sets)]
    for gradient in (False, True):
        us = microseconds([c.launcher(gradient, algorithm) for c in cells])
        rate = cells[0].bytes(gradient) / us / 1e3
        yield {
            "cell": name, "shape": shape, "dtype": str(dtype)[6:], "algorithm": algorithm,
            "flags": flags, "pass": "gradient" if gradient else "forward", "us": us,
            "gb_per_s": rate, "percent": 100 * rate / limit,
        }  # fmt: skip
    del cells
    torch.cuda.empty_cache()


def show(row):
    print(
        f"{row['cell']:>12} {'x'.join(map(str, row['shape'])):>14} {row['dtype']:>8} "
        f"{row['algorithm']:>8} {row['flags']:>6} {row['pass']:>8} "
        f"{row['us']:9.1f} us {row['gb_per_s']:6.0f} GB/s {row['percent']:4.0f} %",
        flush=True,
    )


class Normalization:
    """Layer normalisation of rows, and its gradient without the sum over chunks of rows."""

    def __init__(self, library, rows, width, dtype):
        self.run = library.tf_plr_gpu_normalize
        self.run.restype = ctypes.c_char_p
        self.x, self.d_y = (torch.randn(rows, width, device="cuda").to(dtype) for _ in range(2))
        self.y, self.d_x = (torch.full_like(self.x, float("nan")) for _ in range(2))
        self.scale, self.bias = (torch.rand(width, device="cuda") + 0.5 for _ in range(2))
        self.statistics = torch.empty(rows, 2, device="cuda")
        chunks = 2048  # The most, by cc/engine/layer_normalization.h.
        self.d_scales, self.d_biases = (torch.zeros(chunks, width, device="cuda") for _ in range(2))

    def launcher(self, gradient):
        tensors = (self.x, self.scale, self.bias, self.y, self.statistics)
        if gradient:
            tensors = (
                self.x, self.d_y, self.scale, self.statistics, self.d_x, self.d_scales,
                self.d_biases,
            )  # fmt: skip
        pointers = (ctypes.c_void_p * 7)(*(tensor.data_ptr() for tensor in tensors))
        dtype, sizes = DTYPES.index(self.x.dtype), [ctypes.c_int64(n) for n in self.x.shape]

        def launch():
            stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
            error = self.run(dtype, int(gradient), *sizes, pointers, stream)
            if error is not None:
                raise RuntimeError(error.decode())

        launch.of = self
        return launch

    def check(self):
        x = self.x.double().requires_grad_()
        scale, bias = (t.double().requires_grad_() for t in (self.scale, self.bias))
        y = torch.nn.functional.layer_norm(x, x.shape[1:], scale, bias, eps=1e-3)
        y.backward(self.d_y.double())
        self.launcher(False)()
        self.launcher(True)()
        torch.cuda.synchronize()
        tolerance = {2: 0.02, 4: 1e-4}[self.x.element_size()]
        for actual, expected in (
            (self.y, y.detach()), (self.d_x, x.grad), (self.d_scales.sum(0), scale.grad),
            (self.d_biases.sum(0), bias.grad),
        ):  # fmt: skip
            error = (actual.double() - expected).abs().max() / expected.abs().max()
            if not error < tolerance:
                raise AssertionError(f"normalisation is wrong by {error:.1e}: {self.x.shape}")


def timed_normalizations(library, limit):
    for dtype in (torch.float32, torch.bfloat16):
        for rows, width in ((65_536, 512), (65_536, 1024), (65_536, 2048), (65_536, 1023)):
            Normalization(library, 1000, width, dtype).check()
            sets = [Normalization(library, rows, width, dtype) for _ in range(2)]
            for gradient in (False, True):
                us = microseconds([one.launcher(gradient) for one in sets])
                rate = (3 if gradient else 2) * sets[0].x.nbytes / us / 1e3
                yield {
                    "cell": "normalise", "shape": (rows, width), "dtype": str(dtype)[6:],
                    "algorithm": "", "flags": "", "pass": "gradient" if gradient else "forward",
                    "us": us, "gb_per_s": rate, "percent": 100 * rate / limit,
                }  # fmt: skip


def small(shape):
    steps = min(shape[1], 20_000_000 // (8 * shape[2]))
    return max(1, min(shape[0], 20_000_000 // (8 * steps * shape[2]))), steps, shape[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libtf_plr_kernels.so")
    parser.add_argument("--algorithms", nargs="+", default=["auto"], choices=ALGORITHMS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", default="", help="to record where there is no git")
    arguments = parser.parse_args()
    library = ctypes.CDLL(str(arguments.library.resolve()))
    result = {
        "environment": environment(arguments.commit),
        "memory_gb_per_s": memory_limit(),
        "rows": [],
    }
    print(json.dumps(result["environment"]), json.dumps(result["memory_gb_per_s"]))
    limit = result["memory_gb_per_s"]["add"]
    for dtype in (torch.float32, torch.bfloat16):
        for name in {**CELLS, **OTHER_CELLS}:
            odd = ODD_SHAPES if dtype == torch.bfloat16 else []
            for shape in SHAPES + odd if name in CELLS else SHAPES[:2]:
                for algorithm in arguments.algorithms:
                    # See HasKernelsWithFlags.
                    takes_resets = dtype.itemsize > 2 or (name in FIXED[:-1] and shape[2] % 2 == 0)
                    every = ("", "masked", "resets") if takes_resets else ("", "masked")
                    for flags in every:
                        Cell(library, name, small(shape), dtype, flags).check(algorithm)
                    for flags in every if shape in SHAPES[:2] else ("",):
                        for row in timed(library, name, shape, dtype, algorithm, flags, limit):
                            result["rows"].append(row)
                            show(row)
    for row in timed_normalizations(library, limit):
        result["rows"].append(row)
        show(row)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
