"""What the tests train: a very small model, on a few drawn flowers."""

import keras
import numpy as np
import pytest

import gcvit
from gcvit import drawn_flowers, flower_sources, flowers, tasks

SMALL = {
    "window_size": (4,),
    "embed_dim": 4,
    "depths": (2,),
    "num_heads": (1,),
    "num_classes": 5,
}
EPOCHS = {"head_epochs": 2, "epochs": 3, "verbose": 0}


def small_model(**kwargs):
    keras.utils.set_random_seed(0)
    model = gcvit.GCViT(**(SMALL | kwargs))
    model.build((None, 32, 32, 3))
    return model


def compiled(model, steps=100, **options):
    """Compile a model for five classes as `fine_tune` does."""
    task = tasks.task_of(model, np.eye(5, dtype="float32"), 0.1)
    flowers.compile_model(model, task, steps, 1e-3, **options)
    return model


def small_data():
    """120 drawings to train on, four batches, and 30 to validate with."""
    with pytest.MonkeyPatch.context() as patch:
        drawings = drawn_flowers.draw_flowers(0, 120, 30)
        patch.setattr(flower_sources, "read", lambda source, seed: drawings)
        return flowers.load_flowers(image_size=32)[:2]
