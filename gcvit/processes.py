"""Processes: several of them, on one machine or on many, work as one.

They are JAX's: `keras.distribution.initialize` joins them. Without it, and with the
other backends, there is one process, the first.
"""

import keras
import numpy as np


def count():
    """Give the number of processes that work as one, an int."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def rank():
    """Give this process's number, from 0; the first one writes files."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def gather(text):
    """Give every process the texts of all; each of them must call it.

    Args:
        text: this process's.

    Returns:
        A list of texts, one for each process, in their order.
    """
    if count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), "uint8")
    sizes = multihost_utils.process_allgather(np.array(len(content)))
    padded = np.pad(content, (0, int(sizes.max()) - len(content)))
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:n]).decode() for row, n in zip(rows, sizes)]


def wait(name):
    """Wait until every process has come to the same place.

    Args:
        name: of the place, a text, the same for all.
    """
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
