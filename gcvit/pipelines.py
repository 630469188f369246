"""Pipelines: from pictures to the batches that a model trains on.

In each pass a picture is seen differently: a random part of it, mirrored or
not. For validation it is the middle, as in `gcvit.preprocess`. Each picture is
decoded once, shrunk as far as the smallest part allows, and kept, until all of
them fill `examples.CACHE_BYTES`.

They are TensorFlow's, whatever backend trains.
"""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input

from gcvit import examples, folders, pictures, processes, shares
from gcvit.arguments import whole_number
from gcvit.sizes import around_crop, size_pair

if keras.backend.backend() != "tensorflow":
    # TensorFlow would take all the memory of a GPU that another backend needs.
    with contextlib.suppress(RuntimeError):  # it is in use already
        tf.config.set_visible_devices([], "GPU")

SMALLEST_AREA = 0.35
MOST_OBLONG = 4 / 3
# Black and white after normalisation, which is linear between them.
BLACK, WHITE = preprocess_input(
    np.array([[0.0] * 3, [255.0] * 3], "float32"),
    data_format="channels_last",
    mode="torch",
)


# === One picture ===


def decoded_side(image_size):
    """Give the shorter side of the pictures that are kept.

    The shorter side of the smallest part then has as many pixels as the
    longer side of the image: no part is enlarged.
    """
    return math.ceil(max(image_size) * (MOST_OBLONG / SMALLEST_AREA) ** 0.5)


def resize(image, image_size):
    """Resize and normalise an image, as `gcvit.preprocess` does.

    Args:
        image: a tensor `(H, W, 3)`, from 0 to 255.
        image_size: a (height, width) pair.

    Returns:
        A float32 tensor `(height, width, 3)`.
    """
    image = tf.image.resize(image, image_size, "bicubic", antialias=True)
    image = tf.clip_by_value(image, 0, 255)  # bicubic overshoots
    return BLACK + image / 255 * (WHITE - BLACK)


def cut_middle(images, image_size):
    """Cut out the middle of images, in the proportions of another size."""
    shape = tf.shape(images)[-3:-1]
    height, width = image_size
    size = tf.minimum(
        shape, [shape[1] * height // width, shape[0] * width // height]
    )
    top, left = tf.unstack((shape - size) // 2)
    return images[..., top : top + size[0], left : left + size[1], :]


def prepare(images, image_size, crop=1.0):
    """Do in a graph of TensorFlow what `gcvit.preprocess` does.

    Args:
        images: a tensor `(H, W, 3)` or `(B, H, W, 3)`, from 0 to 255; its
            sizes need not be known.
        image_size: a (height, width) pair.
        crop: which share of the middle to keep, in (0, 1].

    Returns:
        A float32 tensor `(B, height, width, 3)`; for one photo, B is 1.

    Raises:
        ValueError: for another shape.
    """
    if images.shape.rank not in (3, 4) or images.shape[-1] != 3:
        raise ValueError(
            f"images of shape {images.shape} are not photos; "
            "(height, width, 3) or (batch, height, width, 3) would work."
        )
    if images.shape.rank == 3:
        images = images[None]
    height, width = image_size
    larger, (top, left) = around_crop(image_size, crop)
    images = resize(cut_middle(images, image_size), larger)
    return images[:, top : top + height, left : left + width]


def cut_and_mirror(image, seed):
    """Cut out a random part of an image, and mirror half of those parts.

    Args:
        image: a tensor `(H, W, 3)`.
        seed: two ints; the same ones give the same part.

    Returns:
        A tensor `(height, width, 3)`, of `SMALLEST_AREA` at least, and at
        most `MOST_OBLONG`. A picture so oblong that it has no such part comes
        whole.
    """
    cut_seed, mirror_seed = tf.unstack(tf.random.split(seed, 2))
    start, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        cut_seed,
        aspect_ratio_range=(1 / MOST_OBLONG, MOST_OBLONG),
        area_range=(SMALLEST_AREA, 1),
        use_image_if_no_bounding_boxes=True,
    )
    part = tf.slice(image, start, size)
    return tf.image.stateless_random_flip_left_right(part, mirror_seed)


# === Batches ===


def train_batches(found, class_count, image_size, batch_size, seed, decode):
    """Make the pipeline to train with; see `load_pictures`.

    Args:
        found: `Example` tuples that are read.
        class_count: an int.
        image_size: as for `load_pictures`.
        batch_size: as for `load_pictures`.
        seed: as for `load_pictures`.
        decode: what decodes a picture that was not kept, a function.
    """
    places, weights = shares.share_of(len(found), batch_size)
    kept = {i: x.values for i, x in enumerate(found) if x.values is not None}
    room = [examples.CACHE_BYTES - sum(x.nbytes for x in kept.values())]
    with tf.device("CPU"):  # where the pipeline runs
        labels = tf.constant([example.label for example in found], "int32")
        epoch = tf.Variable(0, dtype="int32", trainable=False)

    def one_pass(_):
        seeds = tf.stack([seed, epoch.assign_add(1)])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(found)), seeds
        )
        seeds = tf.random.split(seeds, len(found))
        rows = tf.gather(order, places), tf.gather(seeds, places)
        rows += () if weights is None else (weights,)
        return tf.data.Dataset.from_tensor_slices(rows)

    def decoded(i):
        values = kept.get(int(i))
        if values is None:  # another process has read it, or there is no room
            values = decode(found[i].picture, decoded_side(image_size))
            if room[0] >= values.nbytes:
                room[0] -= values.nbytes
                kept[int(i)] = values
        return values

    def example(i, seed, *weight):
        image = tf.numpy_function(decoded, [i], "uint8")
        image.set_shape((None, None, 3))
        image = resize(cut_and_mirror(image, seed), image_size)
        return image, tf.one_hot(labels[i], class_count), *weight

    train = tf.data.Dataset.from_tensors(0).flat_map(one_pass)
    train = train.apply(tf.data.experimental.assert_cardinality(len(places)))
    train = train.map(example, tf.data.AUTOTUNE)
    train = train.batch(batch_size // processes.count())
    train = train.prefetch(tf.data.AUTOTUNE)
    train.epoch = epoch
    train.contents = examples.content_of(found, seed)
    return train


def validation_batches(found, class_count, image_size, batch_size, decode):
    """Make the pipeline to validate with; see `train_batches`."""
    places, weights = shares.share_of(len(found), batch_size)
    files = [example.picture for example in found]
    with tf.device("CPU"):  # where the pipeline runs
        labels = tf.constant([example.label for example in found], "int32")

    def example(i, *weight):
        image = tf.numpy_function(lambda i: decode(files[i]), [i], "uint8")
        image.set_shape((None, None, 3))
        image = resize(cut_middle(image, image_size), image_size)
        return image, tf.one_hot(labels[i], class_count), *weight

    rows = (places,) if weights is None else (places, weights)
    validation = tf.data.Dataset.from_tensor_slices(rows)
    validation = validation.map(example, tf.data.AUTOTUNE)
    validation = validation.batch(batch_size // processes.count())
    if len(places) * 12 * math.prod(image_size) <= examples.CACHE_BYTES:
        validation = validation.cache()
    return validation.prefetch(tf.data.AUTOTUNE)


# === From pictures to both ===


def check_sizes(image_size, batch_size):
    """Give both as the pipelines want them, before anything is read."""
    pair = size_pair(image_size, "image_size")
    batch_size = whole_number("batch_size", batch_size)
    shares.check_batch_size(batch_size)
    return pair, batch_size


def make_pipelines(train, validation, names, options, left_out=()):
    """Make both pipelines of pictures that are listed; see `load_pictures`.

    Args:
        train: `Example` tuples that are not read.
        validation: such examples; if there are none, a tenth of each class of
            `train` is put aside for it.
        names: of the classes.
        options: the image size, the batch size and the seed, as for
            `load_pictures`.
        left_out: pairs (path, reason) of what is left out already.

    Returns:
        As `load_pictures`.
    """
    image_size, batch_size = check_sizes(*options[:2])
    seed, shorter_side = options[2], decoded_side(image_size)
    examples.check_found([*train, *validation], names)
    found, damaged = examples.read_all(train, shorter_side)
    own, damaged_too = examples.read_all(validation, shorter_side)
    left_out = [*left_out, *damaged, *damaged_too]
    both, value_range = examples.same_scale([*found, *own])
    if validation:
        train, validation = both[: len(found)], both[len(found) :]
    else:
        train, validation = examples.split_off(both, seed)
    examples.check(train, validation, names, left_out)

    def decode(picture, shorter_side=None):
        return pictures.decode(picture, shorter_side, value_range)

    if processes.rank() == 0:
        print(examples.summary(train, validation, names, value_range))
    options = len(names), image_size, batch_size
    train = train_batches(train, *options, seed, decode)
    train.class_names, train.value_range = names, value_range
    train.left_out = left_out
    validation = validation_batches(validation, *options, decode)
    train.parts = validation.parts = shares.parts()
    shares.share_ourselves()
    return train, validation, names


def load_pictures(
    folder,
    image_size=64,
    batch_size=32,
    seed=0,
    *,
    validation=None,
    group_by=None,
):
    """Make the pipelines to train and to validate with, of your own pictures.

    Both give batches: float32 images `(B, height, width, 3)`, normalised as by
    `gcvit.preprocess`, and labels `(B, classes)`, one-hot. `train` shuffles,
    cuts out and mirrors, differently in each pass, and in the same way with
    the same seed. Its variable `epoch` counts the passes; assign to it to
    repeat one. Its `contents` is a text that depends on the seed and on all
    pictures and labels, its `class_names` are those of the classes, and its
    `left_out` lists what is not a picture: pairs (path, reason).

    Pictures with more than 8 bits are scaled by what their values suggest, all
    by the same; `train.value_range` says it, and `fine_tune` gives it to the
    model. A linked folder is followed once. Hidden files, and those of the
    system, are passed over.

    With `keras.distribution.DataParallel`, set before, the devices share each
    batch, and `batch_size` is that of all. Each process reads its part of the
    pictures, and Keras's `auto_shard_dataset` is turned off. If the devices do
    not divide the last batch, it is filled up: weights `(B,)` are the third
    part of each batch then, 0 for what is filled in. `fine_tune` counts them
    exactly; `model.evaluate` gives the last batch a little too much weight.

    Args:
        folder: a folder with one sub-folder of pictures for each class, which
            gives the class its name.
        image_size: height and width in pixels, an int or a pair.
        batch_size: how many images are in each batch, an int.
        seed: an int.
        validation: such a folder, of some of the same classes, to validate
            with. `None` puts a tenth of each class of `folder` aside. Which
            pictures that are depends on what is in them, not on their names:
            copies of a file land on one side.
        group_by: what else must land on one side: `"folder"` for what is in
            one sub-folder of a class, or a regular expression for files whose
            names agree in what it finds (in its group, if it has one), such as
            `"^patient[0-9]+"`.

    Returns:
        `train` and `validation`, two `tf.data.Dataset`, and the class names.

    Raises:
        ValueError: if the folder is not there, if its classes cannot be told
            or are fewer than two, for a class that is left without pictures,
            for sizes that cannot be, for a batch that the devices do not
            divide, and if processes find different pictures.
        RuntimeError: on the other processes, if one cannot read a file.
        OSError: if the system cannot read a file or a folder.
    """
    check_sizes(image_size, batch_size)
    with processes.together():
        listed = folders.read_folders(folder, validation, group_by)
    found, own, names, left_out, passed_over = listed
    if passed_over and processes.rank() == 0:
        print(f"Passed over, hidden or the system's: {len(passed_over)}.")
    options = image_size, batch_size, seed
    return make_pipelines(found, own, names, options, left_out)
