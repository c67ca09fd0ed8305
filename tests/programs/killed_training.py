# SPDX-License-Identifier: MIT
import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf
from small_training import fit, model

tf.config.experimental.enable_op_determinism()  # On GPUs, XLA tries products in each process.
folder, kill, result = sys.argv[1:]
epochs = []


class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        epochs.append(epoch)
        if kill == "kill" and epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)


fit(6, keras.callbacks.BackupAndRestore(folder), Kill())
np.savez(result, np.array(epochs), *model.get_weights())
