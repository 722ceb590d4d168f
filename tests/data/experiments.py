"""Small experiments of frames whose targets are worked out from their inputs."""

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter


def make_frames(folder, *, positions=3, slices=3, times=1, size=(40, 48), targets=1, only=None, skip=()):
    """Frames of a smooth random volume (channel 0, float32), and of targets ``c`` that are 100 c + 10 c times the input.

    ``only``: slices at which targets exist. ``skip``: (t, c, z, p) that do not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for p in range(positions):
        for t in range(times):
            volume = gaussian_filter(rng.standard_normal((slices, *size)), (0.5, 2, 2)).astype(np.float32)
            for c in range(targets + 1):
                for z in range(slices) if only is None or c == 0 else only:
                    if (t, c, z, p) not in skip:
                        image = volume[z] if c == 0 else 100 * c + 10 * c * volume[z]
                        tifffile.imwrite(folder / f"im_c{c:03d}_z{z:03d}_t{t:03d}_p{p:03d}.tif", image)
    return folder


def frame(folder, c, z, p, t=0):
    return tifffile.imread(folder / f"im_c{c:03d}_z{z:03d}_t{t:03d}_p{p:03d}.tif")
