"""Small labelled images on disk, for tests of the data that is made of them."""

import imageio.v3 as iio
import numpy as np
import tifffile

from lamella.data.labelled import LabelledData


def cells(shape, seed=0, num=6, first=1):
    """Labels of ``num`` boxes that do not touch each other, and an image of noise that is brighter in them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    places = [(y, x) for y in range(2, shape[-2] - 6, 9) for x in range(3, shape[-1] - 5, 8)]
    for k, (y, x) in enumerate(places[:num]):
        labels[..., y : y + 6, x : x + 5] = first + k
    image = rng.integers(20, 60, shape) + 100 * (labels > 0)
    return image.astype(np.uint8), labels


def write(folder, name, image, labels, suffix=".tif"):
    for kind, array in (("images", image), ("labels", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        if suffix == ".tif":
            colour = (
                {"photometric": "rgb"} if array.ndim == 3 and array.shape[-1] == 3 else {"photometric": "minisblack"}
            )
            tifffile.imwrite(folder / kind / f"{name}.tif", array, **colour)
        else:
            iio.imwrite(folder / kind / f"{name}{suffix}", array)
    return str(folder)


def data(*sources, **changes):
    """Unscaled crops of 16 pixels, unless said otherwise."""
    plain = {"kind": "range", "low": [0], "high": [1]}
    named = [{"path": s} if isinstance(s, str) else s for s in sources]
    return LabelledData.load({"sources": named, "crop": 16, "normaliser": plain, **changes})


def arrays(sample):
    """Image (c, *space), labels and valid (*space)."""
    return (
        sample["image"].tensor[0].numpy(),
        sample["labels"].tensor[0, 0].numpy(),
        sample["valid"].tensor[0, 0].numpy(),
    )


def find(crop, whole):
    """Where ``crop`` lies in ``whole``; the last place if there are several, None if there is none."""
    view = np.lib.stride_tricks.sliding_window_view(whole, crop.shape)
    places = np.argwhere((view == crop).reshape(*view.shape[: whole.ndim], -1).all(-1))
    return tuple(int(v) for v in places[-1]) if len(places) else None
