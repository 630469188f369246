"""Where the flowers come from: `tf_flowers`, or code that draws them."""

import os
import urllib.request

from gcvit import drawn_flowers

TF_FLOWERS = "http://download.tensorflow.org/example_images/flower_photos.tgz"


def read_tf_flowers():
    """Read `tf_flowers`, downloading 218 MiB where it is not prepared.

    Returns:
        Pairs (bytes, class number) of `train[:90%]` and of `train[90%:]`, and
        the class names.

    Raises:
        ImportError: if TensorFlow Datasets is not installed.
        OSError: if it is not prepared and cannot be downloaded.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "tf_flowers takes a package: pip install tensorflow-datasets "
            "importlib-resources."
        ) from error
    builder = tfds.builder(
        "tf_flowers", data_dir=os.environ.get("TFDS_DATA_DIR")
    )
    if not builder.is_prepared():
        try:
            # Without a network TensorFlow Datasets keeps trying, for minutes.
            request = urllib.request.Request(TF_FLOWERS, method="HEAD")
            urllib.request.urlopen(request, timeout=10).close()
            builder.download_and_prepare()
        except Exception as error:  # a download has many ways to fail
            raise OSError(
                "tf_flowers is not prepared here, and could not be had from "
                f"{TF_FLOWERS}: {error}. Set TFDS_DATA_DIR to a folder where "
                "it is prepared, or give a folder of pictures or 'drawn' as "
                "source."
            ) from error
    splits = builder.as_dataset(
        split=["train[:90%]", "train[90%:]"],
        decoders={"image": tfds.decode.SkipDecoding()},
        as_supervised=True,
    )
    train, validation = (
        [(picture, int(label)) for picture, label in split.as_numpy_iterator()]
        for split in splits
    )
    return train, validation, builder.info.features["label"].names


def read(source, seed):
    """Read `tf_flowers`, or draw flowers.

    Args:
        source: `"tf_flowers"`, `"drawn"`, or `None` for the first, and where
            that is out of reach for the second.
        seed: of the drawn ones, an int.

    Returns:
        As `read_tf_flowers`.

    Raises:
        ImportError, OSError: as `read_tf_flowers`, if `source` asks for it.
    """
    if source == "tf_flowers":
        return read_tf_flowers()
    if source == "drawn":
        print("These flowers are drawn by code: a stand-in for photographs.")
        return drawn_flowers.draw_flowers(seed)
    try:
        return read_tf_flowers()
    except (ImportError, OSError) as error:
        print(error)
        return read("drawn", seed)
