"""Pipelines: from pictures to the batches that a model trains on.

In each pass a picture is seen differently: a random part of it, mirrored or
not. For validation it is the middle, as in `gcvit.preprocess`. Each picture is
decoded once, shrunk as far as the smallest part allows, and kept, until all of
them fill `pictures.CACHE_BYTES`.

They are TensorFlow's, whatever backend trains.
"""

import math

import numpy as np
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input

from gcvit import pictures
from gcvit.arguments import whole_number
from gcvit.sizes import size_pair

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


def cut_middle(image, image_size):
    """Cut out the middle of an image, in the proportions of another size."""
    shape = tf.shape(image)
    height, width = image_size
    size = tf.minimum(
        shape[:2], [shape[1] * height // width, shape[0] * width // height]
    )
    start = (shape[:2] - size) // 2
    return tf.slice(image, [*tf.unstack(start), 0], [*tf.unstack(size), 3])


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


def train_batches(examples, class_count, image_size, batch_size, seed):
    """Make the pipeline to train with; see `load_pictures`."""
    shorter_side = decoded_side(image_size)
    with tf.device("CPU"):  # where the pipeline runs
        labels = tf.constant([label for _, label, _ in examples], "int32")
        epoch = tf.Variable(0, dtype="int32", trainable=False)

    def one_pass(_):
        seeds = tf.stack([seed, epoch.assign_add(1)])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(examples)), seeds
        )
        seeds = tf.random.split(seeds, len(examples))
        return tf.data.Dataset.from_tensor_slices((order, seeds))

    def decoded(i):
        picture, _, image = examples[i]
        return (
            pictures.decode(picture, shorter_side) if image is None else image
        )

    def example(i, seed):
        image = tf.numpy_function(decoded, [i], "uint8")
        image.set_shape((None, None, 3))
        image = resize(cut_and_mirror(image, seed), image_size)
        return image, tf.one_hot(labels[i], class_count)

    train = tf.data.Dataset.from_tensors(0).flat_map(one_pass)
    train = train.apply(tf.data.experimental.assert_cardinality(len(examples)))
    train = train.map(example, tf.data.AUTOTUNE).batch(batch_size)
    train = train.prefetch(tf.data.AUTOTUNE)
    train.epoch = epoch
    files = [
        f"{pictures.content(picture)} {label}"
        for picture, label, _ in examples
    ]
    train.contents = pictures.content(f"{seed} {files}".encode())
    return train


def validation_batches(examples, class_count, image_size, batch_size):
    """Make the pipeline to validate with; see `load_pictures`."""
    files = [picture for picture, *_ in examples]
    with tf.device("CPU"):  # where the pipeline runs
        labels = tf.constant([label for _, label, _ in examples], "int32")

    def example(i):
        image = tf.numpy_function(
            lambda i: pictures.decode(files[i]), [i], "uint8"
        )
        image.set_shape((None, None, 3))
        image = resize(cut_middle(image, image_size), image_size)
        return image, tf.one_hot(labels[i], class_count)

    validation = tf.data.Dataset.range(len(files))
    validation = validation.map(example, tf.data.AUTOTUNE).batch(batch_size)
    if len(files) * 12 * math.prod(image_size) <= pictures.CACHE_BYTES:
        validation = validation.cache()
    return validation.prefetch(tf.data.AUTOTUNE)


def check_sizes(image_size, batch_size):
    """Give both as the pipelines want them, before anything is read."""
    pair = size_pair(image_size, "image_size")
    return pair, whole_number("batch_size", batch_size)


def make_pipelines(train, validation, names, image_size, batch_size, seed):
    """Make both pipelines of pictures that are listed; see `load_pictures`.

    Args:
        train: pairs (path or bytes, class number).
        validation: such pairs; if there are none, a tenth of each class of
            `train` is put aside for it.
        names: of the classes.
        image_size: as for `load_pictures`.
        batch_size: as for `load_pictures`.
        seed: as for `load_pictures`.

    Returns:
        As `load_pictures`.
    """
    image_size, batch_size = check_sizes(image_size, batch_size)
    train = pictures.decode_all(train, decoded_side(image_size))
    if validation:
        validation = pictures.decode_all(validation, decoded_side(image_size))
    else:
        train, validation = pictures.split_off(train, seed)
    empty = set(range(len(names))) - {label for _, label, _ in train}
    if empty:
        classes = ", ".join(names[label] for label in sorted(empty))
        raise ValueError(f"no picture to learn from in: {classes}.")
    options = len(names), image_size, batch_size
    return (
        train_batches(train, *options, seed),
        validation_batches(validation, *options),
        names,
    )


def load_pictures(folder, image_size=64, batch_size=32, seed=0):
    """Make the pipelines to train and to validate with, of your own pictures.

    Both give batches: float32 images `(B, height, width, 3)`, normalised as by
    `gcvit.preprocess`, and labels `(B, classes)`, one-hot. `train` shuffles,
    cuts out and mirrors, differently in each pass, and in the same way with
    the same seed. Its variable `epoch` counts the passes; assign to it to
    repeat one. Its `contents` is a text that depends on the seed and on all
    pictures and labels.

    Args:
        folder: a folder with one sub-folder of pictures for each class, which
            gives the class its name. A tenth of each class is for validation.
            Which pictures that are depends on what is in them, not on their
            names: copies of a file land on one side.
        image_size: height and width in pixels, an int or a pair.
        batch_size: how many images are in each batch, an int.
        seed: an int.

    Returns:
        `train` and `validation`, two `tf.data.Dataset`, and the class names.

    Raises:
        ValueError: if the folder is not there or has no sub-folders, for a
            class that is left without pictures, and for sizes that cannot be.
    """
    check_sizes(image_size, batch_size)
    files, names = pictures.read_folder(folder)
    options = image_size, batch_size, seed
    return make_pipelines(files, [], names, *options)


def check_pipelines(model, train, validation):
    """Check, before the first step, that a model goes with its data.

    Args:
        model: a `GCViT`.
        train: as for `fine_tune`.
        validation: as for `fine_tune`.

    Raises:
        ValueError: for labels that are not one-hot, another number of
            classes, another image size, or no known number of batches.
    """
    for data in (train, validation):
        if len(data.element_spec) != 2 or data.element_spec[1].shape.rank != 2:
            raise ValueError(
                f"{data.element_spec} are not images and one-hot labels; "
                "(batch, height, width, 3) and (batch, classes) would work."
            )
        images, labels = (tensor.shape for tensor in data.element_spec)
        if not model.built:
            model.build(images)
        _, classes = model.compute_output_shape(images)
        if labels[1] != classes:
            raise ValueError(
                f"the model tells {classes} classes apart, the data has "
                f"{labels[1]}. Build the model with num_classes={labels[1]}."
            )
    if int(train.cardinality()) <= 0:
        raise ValueError(
            "the number of batches in train is unknown, infinite or 0; "
            "the learning rate depends on it. "
            "train.apply(tf.data.experimental.assert_cardinality(…)) sets it."
        )
    if int(validation.cardinality()) <= 0:
        raise ValueError(
            "the number of batches in validation is unknown, infinite or 0. "
            "A folder has some if a class has two pictures that differ."
        )
