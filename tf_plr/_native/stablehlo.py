# SPDX-License-Identifier: MIT
"""Builds the StableHLO module of a call: one custom call of the engine's handler, for any sizes."""

import functools
from collections.abc import Iterable
from typing import Any

from tf_plr._native.signatures import AxisSize

TARGET = "TfPlr>PortableCall"  # As in cc/xla/handlers.h.
TYPES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "complex<f32>",
    "complex128": "complex<f64>",
    "bool": "i1",
}


def attributes(values: dict[str, Any]) -> str:
    """Formats the attributes of an op as attributes of its custom call."""
    return ", ".join(f"{name} = {_attribute(value)}" for name, value in values.items())


def _attribute(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"array<i64: {_join(map(str, value))}>"
    if isinstance(value, float):
        return f"{value:.9e} : f32"
    return f"{int(value)} : i64"


@functools.cache
def module(
    op: str,
    attributes: str,
    operands: tuple[tuple[str, int], ...],
    results: tuple[tuple[str, tuple[int | AxisSize, ...]], ...],
) -> bytes:
    """The serialized module.

    Args:
        op: The op's name in TensorFlow.
        attributes: What `attributes` returns.
        operands: The type and rank of each operand.
        results: The type and sizes of each result. XLA computes the sizes before it compiles.
    """
    from tensorflow.compiler.mlir.stablehlo import stablehlo  # Not public.

    types = [_tensor(of, rank) for of, rank in operands]
    result_types = [_tensor(of, len(sizes)) for of, sizes in results]
    shapes = [_shape(number, sizes, types) for number, (_, sizes) in enumerate(results)]
    arguments = [f"%{i}" for i in range(len(operands))]
    arguments += [f"%shape{number}" for number in range(len(results))]
    ranks = [len(sizes) for _, sizes in results]
    indices = [len(operands) + number for number in range(len(results))]
    # All layouts are row-major. Without this, XLA would choose layouts on GPUs.
    layouts = _join(map(_row_major, [*(rank for _, rank in operands), *(1 for _ in results)]))
    several = len(results) > 1
    returned = [f"%results#{i}" for i in range(len(results))] if several else ["%results"]
    # XlaCallModule passes the number of the platform first.
    declared = ["%platform: tensor<i32>", *(f"%{i}: {of}" for i, of in enumerate(types))]
    text = f"""
      module attributes {{jax.uses_shape_polymorphism = true}} {{
        func.func public @main({_join(declared)}) -> ({_join(result_types)}) {{
          {"".join(shapes)}
          %results{f":{len(results)}" if several else ""} = stablehlo.custom_call
              @"{TARGET}"({_join(arguments)}) {{
            api_version = 4 : i32,
            backend_config = {{op = "{op}", {attributes}}},
            indices_of_shape_operands = dense<{indices}> : tensor<{len(indices)}xi64>,
            operand_layouts = [{layouts}],
            result_layouts = [{_join(map(_row_major, ranks))}]
          }} : ({_join([*types, *(f"tensor<{rank}xi32>" for rank in ranks)])})
              -> ({_join(result_types)})
          return {_join(returned)} : {_join(result_types)}
        }}
      }}"""
    version = stablehlo.get_current_version()
    return bytes(stablehlo.serialize_portable_artifact_str(text, version))


def _shape(number: int, sizes: tuple[int | AxisSize, ...], types: list[str]) -> str:
    """The lines that compute %shape<number>, the sizes of a result."""
    shape = f"%shape{number} = stablehlo"
    if not sizes:
        return f"{shape}.constant dense<> : tensor<0xi32>\n"
    names = [f"%size{number}_{axis}" for axis in range(len(sizes))]
    lines = [_size(name, size, types) for name, size in zip(names, sizes, strict=True)]
    return "".join(lines) + (
        f"{shape}.concatenate {_join(names)}, dim = 0"
        f" : ({_join(['tensor<1xi32>'] * len(sizes))}) -> tensor<{len(sizes)}xi32>\n"
    )


def _size(name: str, size: int | AxisSize, types: list[str]) -> str:
    if isinstance(size, int):
        return f"{name} = stablehlo.constant dense<{size}> : tensor<1xi32>\n"
    scalar = name.replace("size", "scalar")
    return (
        f"{scalar} = stablehlo.get_dimension_size %{size.operand}, dim = {size.axis}"
        f" : ({types[size.operand]}) -> tensor<i32>\n"
        f"{name} = stablehlo.reshape {scalar} : (tensor<i32>) -> tensor<1xi32>\n"
    )


def _tensor(element: str, rank: int) -> str:
    return f"tensor<{'?x' * rank}{element}>"


def _row_major(rank: int) -> str:
    """The layout of a tensor: its axes, the one that varies fastest first."""
    return f"dense<{list(reversed(range(rank)))}> : tensor<{rank}xindex>"


def _join(words: Iterable[str]) -> str:
    return ", ".join(words)
