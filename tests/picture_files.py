"""Pictures and folders of pictures, for the tests that read them."""

import io

from PIL import Image


def file_of(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def plain(mode, color, size=(30, 20)):
    return Image.new(mode, size, color)


def colour_of(number):
    """Colours that JPEG and resizing keep apart; for up to 64 pictures."""
    return number % 4 * 80, number // 4 % 4 * 80, number // 16 * 80


def fill(folder, counts):
    """Save plain pictures, each of another colour, in one folder a class."""
    number = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            picture = plain("RGB", colour_of(number))
            picture.save(folder / name / f"{i:02}.png")
            number += 1
    return folder
