"""The device at hand: which way of computing is fast on it."""

import keras


def has_gpu():
    """Tell whether Keras's backend has a GPU."""
    if is_torch():
        import torch

        return torch.cuda.is_available()
    devices = keras.distribution.list_devices()
    return any(device.startswith(("gpu", "cuda")) for device in devices)


def is_xla_on_cpu():
    """Tell whether Keras's backend compiles with XLA for a CPU.

    That is JAX without a GPU or TPU. TensorFlow may compile, too, but not so
    that a layer could tell.
    """
    if keras.backend.backend() != "jax":
        return False
    devices = keras.distribution.list_devices()
    return all(device.startswith("cpu") for device in devices)


def is_torch():
    """Tell whether Keras's backend is PyTorch."""
    return keras.backend.backend() == "torch"


def fast_dtype_policy():
    """Name the dtype policy that is fast on the device at hand.

    Returns:
        `"mixed_float16"` on a GPU, otherwise `"float32"`.
    """
    return "mixed_float16" if has_gpu() else "float32"


def fast_jit_compile():
    """Tell whether to compile on the device at hand.

    Returns:
        A bool: for TensorFlow `True` on a GPU, since on a CPU XLA makes this
        model slower; for JAX `True`; for PyTorch `False`, whose compiler does
        not finish with this model.
    """
    if keras.backend.backend() == "tensorflow":
        return has_gpu()
    return keras.backend.backend() == "jax"
