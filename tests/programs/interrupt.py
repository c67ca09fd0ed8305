# SPDX-License-Identifier: MIT
import os
import signal
import threading

import numpy as np
from small_training import fit, model

signal.signal(signal.SIGINT, signal.default_int_handler)  # A background job ignores it.
fit(1)
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    fit(100_000)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("was not interrupted")
before = model.get_weights()
loss = fit(3).history["loss"][-1]
assert np.isfinite(loss)
assert all(np.any(a != b) for a, b in zip(model.get_weights(), before, strict=True))
