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

# In the order of cc/engine/cells/gated.h: activation, own input gate, output.
CELLS = {
    "GILR": (lambda x: torch.nn.functional.elu(x), False, "state"),
    "surrogate": (lambda x: torch.tanh(x), False, "previous"),
    "QRNN f": (lambda x: torch.tanh(x), False, "state"),
    "QRNN fo": (lambda x: torch.tanh(x), False, "gated"),
    "LS-LSTM": (lambda x: torch.tanh(x), True, "gated"),
    "SRU": (lambda x: x, False, "highway"),
}
# batch x time x units
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
    ]


class Cell:
    """One cell on arrays of one shape: `product` holds the blocks side by side."""

    def __init__(self, library, name, shape, dtype, masked=False):
        self.run = library.tf_plr_gpu_run_gated
        self.run.restype = ctypes.c_char_p
        self.number = list(CELLS).index(name)
        self.activation, self.own, self.output = CELLS[name]
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
        self.mask = torch.rand(batch, steps, device="cuda") < 0.8 if masked else None

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
        gated.mask = None if self.mask is None else self.mask.data_ptr()
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
        impulse = (rest.pop(0).sigmoid() if self.own else closed) * self.activation(z)
        if self.mask is not None:
            f, impulse = (
                torch.where(self.mask[..., None], a, torch.full_like(a, masked))
                for a, masked in ((f, 1.0), (impulse, 0.0))
            )
        c = exact(f, impulse)
        previous = torch.cat([torch.zeros_like(c[:, :1]), c[:, :-1]], 1)
        h = previous if self.output == "previous" else c
        if self.gated:
            o = rest.pop(0).sigmoid()
            h = o * c + (1 - o) * x if self.highway else o * c
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
        for name in CELLS:
            for shape in SHAPES:
                for algorithm in arguments.algorithms:
                    for masked in (False, True):
                        Cell(library, name, small(shape), dtype, masked).check(algorithm)
                    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
                    sets = max(1, min(4, 500_000_000 // (4 * size)))
                    cells = [Cell(library, name, shape, dtype) for _ in range(sets)]
                    for gradient in (False, True):
                        us = microseconds([c.launcher(gradient, algorithm) for c in cells])
                        rate = cells[0].bytes(gradient) / us / 1e3
                        row = {
                            "cell": name, "shape": shape, "dtype": str(dtype)[6:],
                            "algorithm": algorithm, "pass": "gradient" if gradient else "forward",
                            "us": us, "gb_per_s": rate, "percent": 100 * rate / limit,
                        }  # fmt: skip
                        result["rows"].append(row)
                        print(
                            f"{name:>9} {'x'.join(map(str, shape)):>14} {row['dtype']:>8} "
                            f"{algorithm:>8} {row['pass']:>8} {us:9.1f} us {rate:6.0f} GB/s "
                            f"{row['percent']:4.0f} %",
                            flush=True,
                        )
                    del cells
                    torch.cuda.empty_cache()
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
