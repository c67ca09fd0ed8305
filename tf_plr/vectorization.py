# SPDX-License-Identifier: MIT
"""`tf.vectorized_map` and `jacobian` over the native ops: one larger op in place of a loop.

TensorFlow has no public way to say how an op is vectorized; this is the one file that uses a
private one. Without it, TensorFlow would run the loop, and warn.
"""

from typing import Any

from tensorflow.python.ops.parallel_for.pfor import RegisterPFor, wrap

from tf_plr import _library
from tf_plr.recurrence import attributes_of


@RegisterPFor("TfPlr>LinearRecurrence")
def _linear_recurrence(pfor_input: Any) -> Any:
    (decays, impulses, *initial_state), attributes = _stacked(pfor_input)
    states = _library.load_library().tf_plr_linear_recurrence(
        decays, impulses, initial_state, **attributes
    )
    return wrap(states, True)


@RegisterPFor("TfPlr>LinearRecurrenceGrad")
def _linear_recurrence_grad(pfor_input: Any) -> list[Any]:
    (decays, states, d_states, *initial_state), attributes = _stacked(pfor_input)
    d_decays, d_impulses, d_initial_state = _library.load_library().tf_plr_linear_recurrence_grad(
        decays, states, d_states, initial_state, **attributes
    )
    return [wrap(gradient, True) for gradient in (d_decays, d_impulses, *d_initial_state)]


def _stacked(pfor_input: Any) -> tuple[list[Any], dict[str, Any]]:
    """The inputs of all iterations, which are one problem with one more axis in front."""
    pfor_input.stack_inputs()
    inputs = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    attributes = attributes_of(pfor_input.op)
    if attributes["axis"] >= 0:
        attributes["axis"] += 1
    return inputs, attributes
