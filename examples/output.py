# SPDX-License-Identifier: MIT
"""What the examples print and draw with."""

import sys

import keras


class Progress(keras.utils.Progbar):
    """A progress bar on a terminal; in a log, a line every half minute."""

    def __init__(self, target, **options):
        super().__init__(target, interval=0.05 if sys.stdout.isatty() else 30, **options)
        self._dynamic_display = sys.stdout.isatty()


def verbosity():
    """What `fit` prints: a bar on a terminal; in a log, a line for each epoch."""
    return 1 if sys.stdout.isatty() else 2


def subplots(*arguments, **options):
    """As pyplot's, without a display. Imports matplotlib only when something is drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(*arguments, **options)
