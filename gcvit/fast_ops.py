"""A few operations, written in the way that is fast where they run.

XLA on a CPU, which is what JAX has without a GPU, is slow at depthwise
convolutions, at max-pooling, at the gradients of a convolution with stride 2
and of a sum that is broadcast, and at the error function that Keras's GELU
takes. There they are written another way. What has a gradient by hand can be
differentiated backwards only, as training does.

PyTorch wants the channels first. Keras copies each map twice for it: into that
order, and back into the order that is fast. Here PyTorch gets a view, which it
takes as it is. Elsewhere all is Keras's own.
"""

import keras
from keras import layers, ops

from gcvit import devices

# === Views of a map, one for each place in a kernel of 3×3 ===


def views(x, stride=1):
    """List the nine views of a padded map, row by row.

    Shapes: `(B, H, W, C)` in, nine times `(B, h, w, C)` out, with
    `h = (H - 3) // stride + 1`, and `w` likewise.
    """
    rows, columns = (stride * ((size - 3) // stride) for size in x.shape[1:3])
    return [
        x[:, i : i + rows + 1 : stride, j : j + columns + 1 : stride]
        for i in range(3)
        for j in range(3)
    ]


def pad(x):
    """Put one row or column of zeros around a map."""
    return ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def is_plain(layer, strides, padding):
    """Tell whether a convolution is as this module needs it.

    Args:
        layer: a convolution of Keras.
        strides: the one stride of both directions, an int.
        padding: `"same"` or `"valid"`.
    """
    settings = layer.kernel_size, tuple(layer.strides), layer.padding
    settings += tuple(layer.dilation_rate), layer.data_format
    needed = (3, 3), (strides, strides), padding, (1, 1), "channels_last"
    return settings == needed


# === A view for PyTorch ===


def by_torch(function, x, *weights, **options):
    """Run one of PyTorch's functions, which want the channels first, on a map.

    Shapes: `x` `(B, H, W, C)`; `(B, h, w, D)` out.

    Args:
        function: its name in `torch.nn.functional`.
        x: the map, a tensor.
        *weights: what the function takes after the map, and
        **options: by name.
    """
    from torch.nn import functional

    view = ops.transpose(x, (0, 3, 1, 2))
    y = getattr(functional, function)(view, *weights, **options)
    return ops.transpose(y, (0, 2, 3, 1))


# === Depthwise convolution ===


@keras.saving.register_keras_serializable(package="gcvit")
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """Keras's layer; another way if a kernel of 3×3 keeps height and width.

    Shapes: `(B, H, W, C)` in and out.
    """

    def call(self, inputs):
        has_one_each = self.depth_multiplier == 1 and not self.use_bias
        if not (has_one_each and is_plain(self, 1, "same")):
            return super().call(inputs)
        if devices.is_xla_on_cpu():
            convolve = depthwise_conv
        elif devices.is_torch():
            convolve = depthwise_conv_by_torch
        else:
            return super().call(inputs)
        kernel = ops.cast(self.kernel[..., 0], inputs.dtype)
        return activation(self.activation)(convolve(inputs, kernel))


def depthwise_conv_by_torch(x, kernel):
    """See `depthwise_conv`."""
    kernel = ops.transpose(kernel, (2, 0, 1))[:, None]
    return by_torch("conv2d", x, kernel, padding=1, groups=kernel.shape[0])


def shifted_products(x, rows):
    """Add up the nine views of a map, each times a row of nine."""
    return sum(
        view * row for view, row in zip(views(pad(x)), ops.unstack(rows))
    )


@ops.custom_gradient
def depthwise_conv(x, kernel):
    """Convolve each channel with its own kernel.

    Shapes: `x` `(B, H, W, C)`, `kernel` `(3, 3, C)`; `(B, H, W, C)` out.
    """

    rows = ops.reshape(kernel, (9, -1))

    def of_an_image(image_and_upstream):
        image, upstream = (part[None] for part in image_and_upstream)
        return ops.stack(
            [
                ops.sum(view * upstream, axis=(0, 1, 2))
                for view in views(pad(image))
            ]
        )

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        # Image by image: what is added up nine times stays in the cache.
        changes = ops.sum(ops.map(of_an_image, (x, upstream)), axis=0)
        return (
            shifted_products(upstream, ops.flip(rows, axis=0)),
            ops.reshape(changes, kernel.shape),
        )

    return shifted_products(x, rows), gradient


# === Convolution with stride 2 ===


@keras.saving.register_keras_serializable(package="gcvit")
class HalvingConv2D(layers.Conv2D):
    """Keras's layer; another way for a kernel of 3×3, stride 2, no padding.

    Shapes: `(B, H, W, C)` in, `(B, h, w, filters)` out, with
    `h = (H - 3) // 2 + 1`, and `w` likewise.
    """

    def convolution_op(self, inputs, kernel):
        if is_plain(self, 2, "valid") and devices.is_xla_on_cpu():
            return halving_conv(inputs, ops.cast(kernel, inputs.dtype))
        if is_plain(self, 2, "valid") and devices.is_torch():
            kernel = ops.transpose(
                ops.cast(kernel, inputs.dtype), (3, 2, 0, 1)
            )
            return by_torch("conv2d", inputs, kernel, stride=2)
        return super().convolution_op(inputs, kernel)


@ops.custom_gradient
def halving_conv(x, kernel):
    """Convolve with stride 2.

    Shapes: `x` `(B, H, W, C)`, `kernel` `(3, 3, C, D)`; `(B, h, w, D)` out.
    """
    channels, filters = kernel.shape[2:]
    y = ops.conv(x, kernel, strides=2, data_format="channels_last")

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        rows = ops.reshape(upstream, (-1, filters))
        columns = ops.concatenate(views(x, stride=2), axis=-1)
        columns = ops.transpose(ops.reshape(columns, (-1, 9 * channels)))
        matrix = ops.reshape(kernel, (9 * channels, filters))
        shares = ops.matmul(rows, ops.transpose(matrix))
        shares = ops.reshape(shares, (-1, *y.shape[1:3], 9 * channels))
        return (
            join(ops.split(shares, 9, axis=-1), x.shape),
            ops.reshape(ops.matmul(columns, rows), kernel.shape),
        )

    return y, gradient


# === Max-pooling ===


def max_pool(x):
    """Take the maximum of each 3×3 places, in steps of 2.

    Shapes: `(B, H, W, C)` in, with the border; `(B, h, w, C)` out, with
    `h = (H - 3) // 2 + 1`, and `w` likewise.
    """
    if devices.is_xla_on_cpu():
        return maxima_of_views(x)
    if devices.is_torch():
        return by_torch("max_pool2d", x, kernel_size=3, stride=2)
    return ops.max_pool(x, 3, strides=2, data_format="channels_last")


@ops.custom_gradient
def maxima_of_views(x):
    """See `max_pool`. Of equal values the first one gets the gradient."""
    maxima, *others = views(x, stride=2)
    for view in others:
        maxima = ops.maximum(maxima, view)

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        shares, is_left = [], ops.ones_like(maxima, dtype="bool")
        for view in views(x, stride=2):
            is_first = ops.logical_and(is_left, view == maxima)
            is_left = ops.logical_and(is_left, ops.logical_not(is_first))
            shares.append(ops.where(is_first, upstream, 0))
        return join(shares, x.shape)

    return maxima, gradient


def join(shares, shape):
    """Add up what the nine views with stride 2 send back, place by place.

    Args:
        shares: nine tensors `(B, h, w, C)`, in the order of `views`.
        shape: that of the map of which the views were taken.

    Returns:
        A tensor of that shape.
    """

    def at(i, j, row=0, column=0):
        places = ((0, 0), (row, 1 - row), (column, 1 - column), (0, 0))
        return ops.pad(shares[3 * i + j], places)

    # A place in an even row is in views 0 and 2, the latter one place on.
    even_even = at(0, 0) + at(2, 0, row=1) + at(0, 2, column=1)
    even_even = even_even + at(2, 2, row=1, column=1)
    even_odd = at(0, 1) + at(2, 1, row=1)
    odd_even = at(1, 0) + at(1, 2, column=1)
    even = ops.stack([even_even, even_odd], axis=3)
    odd = ops.stack([odd_even, at(1, 1)], axis=3)
    x = ops.stack([even, odd], axis=2)  # (B, h + 1, 2, w + 1, 2, C)
    height, width = 2 * x.shape[1], 2 * x.shape[3]
    x = ops.reshape(x, (-1, height, width, shape[-1]))
    return x[:, : shape[1], : shape[2]]


# === A sum that is broadcast ===


def add_to_each(x, bias):
    """Add the same to each of several.

    Shapes: `x` `(B, …)`, `bias` `(…)` or another one that can be broadcast.
    """
    is_one_of_them = tuple(getattr(bias, "shape", ())) == tuple(x.shape[1:])
    if is_one_of_them and devices.is_xla_on_cpu():
        return sum_with_each(x, bias)
    return x + bias


@ops.custom_gradient
def sum_with_each(x, bias):
    """See `add_to_each`. The gradient's sum is written as a product."""

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        rows = ops.reshape(upstream, (upstream.shape[0], -1))
        ones = ops.ones((1, upstream.shape[0]), upstream.dtype)
        return upstream, ops.reshape(ops.matmul(ones, rows), bias.shape)

    return x + bias, gradient


# === GELU ===


@keras.saving.register_keras_serializable(package="gcvit")
def gelu(x):
    """Compute the exact GELU, `x` times the normal distribution's share."""
    return 0.5 * x * (1 + ops.erf(x * 0.5**0.5))


EXACT_GELUS = (keras.activations.gelu, gelu)


def activation(function):
    """Give what computes an activation fast.

    Args:
        function: an activation, a function.

    Returns:
        `gelu` for Keras's GELU where that is slow, otherwise the function.
    """
    if function is keras.activations.gelu and devices.is_xla_on_cpu():
        return gelu
    return function
