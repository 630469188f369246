"""What `gcvit.predict_folder` sees: the pictures of a folder, read in threads.

A picture that cannot be read stops nothing; a drive that fails does.
"""

import errno
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from gcvit import answer_files, examples, folders, pictures, resizing

THREADS = os.cpu_count() or 1


def files_of(folder, file):
    """List the files below a folder, without those of the answers.

    Args:
        folder: a path.
        file: of the answers; it may be below the folder.

    Returns:
        Their paths from the folder on, sorted texts.
    """
    parts = answer_files.folder_of(file)
    own = {file.name, f"unfinished-{file.name}", parts.name}

    def is_own(path):
        for place in (path, path.parent):
            if place.name in own and place.parent.samefile(file.parent):
                return True
        return False

    found = folders.files_below(folder, [])
    return sorted(
        path.relative_to(folder).as_posix()
        for path in found
        if not is_own(path)
    )


def read(folder, image_size, value_range, name):
    """Read a picture as `gcvit.classify` does.

    Returns:
        A float32 array `(height, width, 3)`, or the reason why there is none,
        a text.

    Raises:
        OSError: if a drive fails, not the picture.
    """
    path = folder / name
    try:
        if not path.is_file():
            return "links to nothing, or is no file"
        image = pictures.decode(path, value_range=value_range)
    except FileNotFoundError:
        return "not there any more"
    except PermissionError:
        return "not allowed to be read"
    except MemoryError:
        return "too large for the memory"
    except ImportError:
        raise
    except Exception as error:  # each of Pillow's formats has its own
        number = getattr(error, "errno", None)
        if number and number != errno.EINVAL:  # a damaged TIFF seeks wildly
            raise OSError(
                number,
                f"{error.strerror}; no answer is lost, and the same call "
                "goes on from here",
                path,
            ) from error
        return examples.why_not(path, error)
    return resizing.prepare(image, image_size)


def ahead(function, items, count):
    """Compute in threads, in order, and at most so many results ahead.

    Yields:
        Pairs of an item and what the function gives for it.
    """
    waiting = deque()
    pool = ThreadPoolExecutor(THREADS)
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) == count:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
