"""Model cards: what a run knows, for those who find its model on a hub.

Keras saves to and loads from the Hugging Face Hub itself, by `hf://user/name`.
Loading takes TensorFlow beside any backend: Keras looks at the address with it.
The card that Keras writes says nothing of data, accuracy or licence.
"""

import json

from gcvit import arguments

# What the Hugging Face Hub calls the licences of `gcvit.variants`.
LICENCES = {"CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0", "Apache-2.0": "apache-2.0"}
CARD = """\
---
library_name: keras
pipeline_tag: image-classification
license: {licence}
---

# {name}

GCViT ([arXiv 2206.09959](https://arxiv.org/abs/2206.09959)), with
{parameters:,} parameters, for images of {height}×{width} pixels.

- Data: {data}
- Classes: {classes}
- Validation: {accuracy}
- Licence: {licence_name}. {terms}

```python
import gcvit
import keras  # on any backend, with TensorFlow installed, too, for `hf://`

model = keras.saving.load_model("hf://user/name")
gcvit.classify(model, "photo.jpg")
```
"""
TERMS = {
    "CC BY-NC-SA 4.0": "The weights began as NVIDIA's: not for commercial use, "
    "and what is made of them has the same licence.",
    "Apache-2.0": "The weights began as those of the gcvit-book's nano.",
}


def accuracy_of(folder):
    """Say what a run of `fine_tune` measured after its best epoch."""
    if folder is None:
        return "not measured"
    path = arguments.file_path("folder", folder) / "history.json"
    history = json.loads(path.read_text("utf-8"))
    for name, best in (("val_balanced_accuracy", max), ("val_loss", min)):
        if name in history:
            return f"{name} {best(history[name]):.4f}, the best epoch's"
    return "not measured"


def model_card(model, licence, data, folder=None):
    """Write a model card in Markdown, with the header that the hub reads.

    Args:
        model: a built `GCViT`.
        licence: of the weights, a key of `LICENCES`. NVIDIA's non-commercial
            terms stay with its weights through any fine-tuning; the variant's
            licence is in `gcvit.variants.ROWS`.
        data: what it was trained on, a text.
        folder: of the run, as for `gcvit.fine_tune`; `None` for no accuracy.

    Returns:
        The card, a text, for a file `README.md` beside the model.

    Raises:
        ValueError: for another licence, or a model that is not built.
        OSError: if the folder holds no run.
    """
    if licence not in LICENCES:
        raise ValueError(
            f"licence={licence!r} is unknown; these are known: "
            f"{', '.join(LICENCES)}."
        )
    if not model.built:
        raise ValueError(f"{model.name} is not built, so it has no weights.")
    height, width, _ = model.image_shape
    names = model.class_names or [f"{model.num_classes}, without names"]
    return CARD.format(
        licence=LICENCES[licence],
        licence_name=licence,
        terms=TERMS[licence],
        name=model.name,
        parameters=model.count_params(),
        height=height,
        width=width,
        data=data,
        classes=", ".join(names),
        accuracy=accuracy_of(folder),
    )
