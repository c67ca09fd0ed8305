# SPDX-License-Identifier: MIT
"""Runs the ops in a TensorFlow that they were not built for.

XLA's interface for custom calls is a C interface, so the engine's handlers also run in later
releases than the TensorFlow that they were built with. Each call is a StableHLO module, which
TensorFlow's own op XlaCallModule runs, with or without XLA.
"""

import ctypes
import functools
import json
from collections import namedtuple
from typing import Any

import tensorflow as tf

from tf_plr._native import library, stablehlo
from tf_plr._native.registration import gradients, register_foreign_gradient
from tf_plr._native.signatures import COUNTS, OUTPUTS, Operand

_XLA_CALL_MODULE = 9  # This version works in TensorFlow 2.20 and later.
_OP = "tf_plr"  # The key of the op's name in the JSON that describes a call.


class Portable:
    """The engine's handlers, behind the same calls as the native ops."""

    needs_ranks = True

    def why_unusable(self) -> str:
        """Why the handlers cannot be used, or ""."""
        if problem := register_handlers():
            return problem
        has_gpu = bool(tf.config.list_physical_devices("GPU"))
        if has_gpu and not library.information(library.ENGINE)["cuda"]:
            return "it was built without GPU code (to hide the GPUs, set CUDA_VISIBLE_DEVICES=-1)"
        try:
            stablehlo.module("TfPlr>Op", "axis = 0 : i64", (("f32", 1),) * 2, (("f32", (1,)),))
            _call_module()
        except Exception as error:  # Both use private functions, which may change in any way.
            return f"{type(error).__name__}: {error}"
        return ""

    def call(self, op: str, inputs: dict[str, Any], attributes: dict[str, Any]) -> Any:
        if op not in OUTPUTS:
            raise ImportError(
                "sequences over several replicas need the native ops, which were built for "
                f"TensorFlow {library.information()['tensorflow']}, but TensorFlow "
                f"{tf.__version__} is running. {library.REBUILD}"
            )
        optional = {name: given for name, given in inputs.items() if isinstance(given, list)}
        numbers = {COUNTS[name]: len(given) for name, given in optional.items()}
        attributes = {**attributes, **numbers}
        tensors = [tf.convert_to_tensor(tensor) for tensor in _flatten(inputs)]
        operands = iter([Operand(number, tensor) for number, tensor in enumerate(tensors)])
        named = {
            name: [next(operands) for _ in given] if name in optional else next(operands)
            for name, given in inputs.items()
        }
        planned = OUTPUTS[op](named, attributes)
        outputs = _flatten(planned)
        shapes = [output.shape(tensors) for output in outputs]
        results = _call_module()(
            tensors,
            version=_XLA_CALL_MODULE,
            module=stablehlo.module(
                f"TfPlr>{op}",
                stablehlo.attributes(attributes),
                tuple(
                    (stablehlo.TYPES[tensor.dtype.name], tensor.shape.rank) for tensor in tensors
                ),
                tuple((stablehlo.TYPES[output.dtype.name], output.sizes) for output in outputs),
            ),
            Sout=shapes,
            Tout=[output.dtype for output in outputs],
            platforms=["CPU", "CUDA"],
            # The gradient reads the op and its attributes from here. TensorFlow ignores names of
            # checks that it does not know, but keeps them in saved models.
            disabled_checks=[json.dumps({_OP: op, **attributes})],
        )
        flat = iter([tf.ensure_shape(r, shape) for r, shape in zip(results, shapes, strict=True)])
        fields = {
            name: [next(flat) for _ in part] if isinstance(part, list) else next(flat)
            for name, part in planned.items()
        }
        return _named_tuple(op, *fields)(**fields) if len(fields) > 1 else fields.popitem()[1]


def _flatten(parts: dict[str, Any]) -> list[Any]:
    return [one for part in parts.values() for one in (part if isinstance(part, list) else [part])]


@functools.cache
def register_handlers() -> str:
    """Registers the handlers, which loaded models may also need. Returns "" or the problem."""
    try:
        library.check(library.ENGINE)
        register = ctypes.CDLL(str(library.ENGINE)).TfPlrRegisterHandlers
    except library.LibraryError as error:
        return error.reason
    except OSError as error:
        return str(error)
    register.restype = ctypes.c_char_p
    return str(register().decode())


class _OpView:
    """Makes an XlaCallModule look like the op that it calls, for the gradient of that op."""

    def __init__(self, op: Any, attributes: dict[str, Any]) -> None:
        self.inputs, self.outputs = list(op.inputs), list(op.outputs)
        self._attributes = attributes

    def get_attr(self, name: str) -> Any:
        return self._attributes[name]


@register_foreign_gradient("XlaCallModule")
def _gradient(op: Any, *d_outputs: Any) -> Any:
    """The gradient of a call. It makes calls itself, so derivatives of any order exist.

    It is registered because tf.vectorized_map would silently drop a tf.custom_gradient.
    """
    calls = [json.loads(check) for check in op.get_attr("disabled_checks") if _OP in str(check)]
    if not calls:
        raise LookupError("XlaCallModule has a gradient for the ops of tf_plr only")
    attributes = dict(calls[0])
    return gradients[attributes.pop(_OP)](_OpView(op, attributes), *d_outputs)


def _call_module() -> Any:
    from tensorflow.compiler.tf2xla.python import xla  # Not public.

    return xla.call_module


@functools.cache
def _named_tuple(op: str, *fields: str) -> Any:
    return namedtuple(op, fields)
