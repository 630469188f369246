"""Flowers drawn by code: a stand-in for photographs, which says that it is one.

The species have petals of different number and shape, and different centres.
Colours alone are not enough to tell them apart, and a test makes sure of that.
Place, pose, size, light and background are random.
"""

import io

import numpy as np
from PIL import Image

COLOURS = {
    "white": (238, 234, 226),
    "yellow": (238, 204, 48),
    "orange": (232, 140, 44),
    "red": (192, 40, 52),
    "pink": (226, 132, 164),
    "brown": (82, 54, 34),
    "gold": (206, 156, 40),
}
# The least and the largest number of petals; how deep the gaps between them
# are, as a share of the radius; how pointed they are; how many times they
# wind around; the size of the centre, as a share of the radius; colours.
SPECIES = {
    "dandelion": {
        "petals": (36, 56),
        "gap": 0.4,
        "point": 1.0,
        "turns": 4,
        "centre": (0.0, "gold"),
        "colours": ["yellow", "orange", "white"],
    },
    "daisy": {
        "petals": (12, 18),
        "gap": 0.6,
        "point": 0.4,
        "turns": 0,
        "centre": (0.28, "gold"),
        "colours": ["white", "yellow", "pink"],
    },
    "tulips": {
        "petals": (6, 6),
        "gap": 0.5,
        "point": 1.2,
        "turns": 0,
        "centre": (0.15, "brown"),
        "colours": ["red", "yellow", "pink", "white"],
    },
    "sunflowers": {
        "petals": (16, 24),
        "gap": 0.4,
        "point": 1.2,
        "turns": 0,
        "centre": (0.5, "brown"),
        "colours": ["yellow", "orange", "red"],
    },
    "roses": {
        "petals": (5, 7),
        "gap": 0.15,
        "point": 0.5,
        "turns": 3,
        "centre": (0.0, "red"),
        "colours": ["red", "pink", "white", "yellow"],
    },
}
DRAWING_SIZE = 96


def paint(image, cover, colour):
    """Paint over an image.

    Args:
        image: `(H, W, 3)`.
        cover: how much of each pixel the paint covers, `(H, W)`, from 0 to 1;
            less counts as 0, more as 1.
        colour: `(3,)`, or a colour for each pixel, `(H, W, 3)`.

    Returns:
        An array `(H, W, 3)`.
    """
    cover = np.clip(cover, 0, 1)[..., None]
    return image * (1 - cover) + np.asarray(colour) * cover


def direction(angle):
    """How far each pixel is from the middle, along one direction.

    Args:
        angle: of the direction, in radians.

    Returns:
        An array `(DRAWING_SIZE, DRAWING_SIZE)`; the borders are 0.5 away.
    """
    places = (np.arange(DRAWING_SIZE) + 0.5) / DRAWING_SIZE - 0.5
    return places * np.cos(angle) + places[:, None] * np.sin(angle)


def draw_background(random):
    """Draw two colours that meet, and blades of grass over them.

    Args:
        random: a NumPy generator.

    Returns:
        An array `(DRAWING_SIZE, DRAWING_SIZE, 3)`, from 0 to 255.
    """
    image = np.zeros((DRAWING_SIZE, DRAWING_SIZE, 3))
    image += random.uniform((20, 40, 10), (130, 160, 120))
    across = direction(random.uniform(0, 2 * np.pi))
    image = paint(image, across + 0.5, random.uniform(20, 160, 3))
    for _ in range(random.integers(4, 16)):
        across = direction(random.uniform(0, np.pi))
        away = abs(across - random.uniform(-0.5, 0.5))
        cover = (random.uniform(0.005, 0.05) - away) * DRAWING_SIZE
        green = random.uniform((20, 60, 10), (140, 190, 100))
        image = paint(image, cover, green)
    return image


def draw_flower(species, random):
    """Draw a flower; as `draw_flower_and_mask`, without the mask."""
    return draw_flower_and_mask(species, random)[0]


def draw_flower_and_mask(species, random):
    """Draw a flower, and say where it is.

    Args:
        species: a key of `SPECIES`.
        random: a NumPy generator.

    Returns:
        A uint8 array `(DRAWING_SIZE, DRAWING_SIZE, 3)`, and a bool for each
        pixel, `(DRAWING_SIZE, DRAWING_SIZE)`: whether its middle is on petals
        or on the centre.
    """
    traits = SPECIES[species]
    image = draw_background(random)
    # Where each pixel is, seen from a flower that is turned and tilted.
    radius, turn = random.uniform(0.2, 0.4), random.uniform(0, 2 * np.pi)
    x = (direction(turn) - random.uniform(-0.15, 0.15)) / radius
    y = direction(turn + np.pi / 2) - random.uniform(-0.15, 0.15)
    y /= radius * random.uniform(0.6, 1)
    away, angle = np.hypot(x, y), np.arctan2(y, x)
    # 1 along the middle of each petal, 0 in the gaps.
    petals = random.integers(*traits["petals"], endpoint=True)
    wave = abs(np.cos(petals * angle / 2)) ** traits["point"]
    outline = 1 - traits["gap"] * (1 - wave)
    shade = 0.75 + 0.25 * wave
    if traits["turns"]:
        spiral = np.cos(2 * np.pi * traits["turns"] * away + angle)
        shade *= 0.75 + 0.25 * spiral
    colour = np.array(COLOURS[random.choice(traits["colours"])])
    pixels = radius * DRAWING_SIZE
    image = paint(image, (outline - away) * pixels, colour * shade[..., None])
    size, colour = traits["centre"]
    image = paint(image, (size - away) * pixels, COLOURS[colour])
    image = image * random.uniform(0.6, 1.2)  # the light
    mask = away < np.maximum(outline, size)
    return np.clip(image, 0, 255).astype("uint8"), mask


def draw_flowers(seed, train_count=200, validation_count=100):
    """Draw flowers, as many of each species.

    Args:
        seed: of the drawings, an int.
        train_count: how many to train on, an int.
        validation_count: how many to validate with, an int.

    Returns:
        Pairs (bytes of a PNG file, class number), two lists of them, and the
        class names.
    """
    random = np.random.default_rng(seed)
    names = list(SPECIES)
    drawings = []
    for i in range(train_count + validation_count):
        label = i % len(names)
        file = io.BytesIO()
        Image.fromarray(draw_flower(names[label], random)).save(file, "png")
        drawings.append((file.getvalue(), label))
    return drawings[:train_count], drawings[train_count:], names
