"""Two views of one place: points go where the image goes, through every augmentation, and only what both views show counts."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch

from lamella.core.rng import stream
from lamella.data.augment import Imaging, Specimen, augment, show
from lamella.data.augment.affine import Rotate
from lamella.data.augment.arrange import Mirror
from lamella.data.augment.base import GeometricAugment, Uniform
from lamella.data.augment.grain import Noise
from lamella.data.images import IMAGE, VALID
from lamella.data.sample import Layer, Sample
from lamella.ops.points import at_points, inside
from lamella.tasks.contrast.config import default_imaging, default_specimen
from lamella.tasks.contrast.sample import POINTS, draw_points, two_views

SPACE = {2: (72, 72), 3: (30, 48, 48)}
MOVING = [
    cls
    for cls in get_args(get_args(Specimen)[0])
    if issubclass(cls, GeometricAugment) and cls.model_fields["kind"].default != "jitter"
]  # jitter moves sections one by one, which an image does not have
SIZES = {"crop": lambda ndim: {"size": [n - 8 for n in SPACE[ndim]]}, "pad": lambda _: {"total": 12}}
ANISOTROPIC = {"elastic": {"std": (0.4, 2.0, 2.0), "spacing": (5.0, 16.0, 16.0)}}


def spots(ndim: int, sigma: float = 1.2) -> Sample:
    """An image that is dark but for bright Gaussian spots, between voxels, and points on them."""
    space = SPACE[ndim]
    places = np.array(list(product(*([0.3 * n + 0.37, 0.62 * n + 0.11] for n in space))))
    grid = np.stack(np.meshgrid(*map(np.arange, space), indexing="ij"), -1)
    image = sum(np.exp(-((grid - place) ** 2).sum(-1) / (2 * sigma**2)) for place in places)
    layers = {
        IMAGE: Layer(torch.tensor(image, dtype=torch.float32)[None, None], "image"),
        POINTS: Layer(torch.tensor(places, dtype=torch.float32)[None], "points"),
    }
    return Sample(layers)


def centre(image: np.ndarray, near: np.ndarray, reach: int = 4) -> np.ndarray:
    """The centre of mass of what is around a place."""
    corner = np.rint(near).astype(int) - reach
    window = image[tuple(slice(c, c + 2 * reach + 1) for c in corner)]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in window.shape), indexing="ij"), -1)
    return corner + (grid * window[..., None]).sum(tuple(range(image.ndim))) / window.sum()


def check_spots(moved: Sample, least: int) -> None:
    """Every point that is well inside lies on the middle of its spot."""
    image, points = moved[IMAGE].tensor[0, 0].numpy(), moved[POINTS].tensor[0].numpy()
    clear = [p for p in points if all(5 <= v <= n - 6 for v, n in zip(p, image.shape, strict=True))]
    assert len(clear) >= least
    for point in clear:
        assert np.abs(centre(image, point) - point).max() < 0.2


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("cls", MOVING, ids=lambda cls: cls.model_fields["kind"].default)
def test_every_augmentation_that_moves_an_image_moves_its_points(cls, ndim):
    kind = cls.model_fields["kind"].default
    own = SIZES[kind](ndim) if kind in SIZES else ANISOTROPIC.get(kind, {}) if ndim == 3 else {}
    given = {"p": 1.0} if "p" in cls.model_fields else {}
    for seed in range(2):
        check_spots(augment(spots(ndim), [cls.model_validate({**given, **own})], stream(seed)), least=1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_all_of_them_one_after_the_other_move_points_exactly(ndim):
    flat = ANISOTROPIC["elastic"] if ndim == 3 else {}
    specimen = [a.model_copy(update=flat) if a.kind == "elastic" else a for a in default_specimen()]
    for seed in range(3):
        check_spots(augment(spots(ndim), specimen, stream(seed)), least=1)


@pytest.mark.parametrize("cls", get_args(get_args(Imaging)[0]), ids=lambda cls: cls.model_fields["kind"].default)
def test_imaging_moves_nothing(cls):
    before = spots(2)
    given = {"p": 1.0} if "p" in cls.model_fields else {}
    after = show(before, [cls.model_validate(given)], stream(0))
    assert torch.equal(after[POINTS].tensor, before[POINTS].tensor)
    assert torch.equal(after[IMAGE].tensor, before[IMAGE].tensor)


def tissue(ndim: int, batch: int = 2) -> Sample:
    """Smooth images, all of which counts."""
    space = SPACE[ndim]
    noise = torch.randn(batch, 1, *(n // 6 + 1 for n in space), generator=torch.Generator().manual_seed(0))
    mode = {2: "bicubic", 3: "trilinear"}[ndim]
    image = torch.nn.functional.interpolate(noise, space, mode=mode, align_corners=False)
    return Sample({IMAGE: Layer(image, "image"), VALID: Layer(torch.ones(batch, 1, *space), "weight")})


def views(batch: Sample, specimen, imaging=(), density=0.02, margin=0, seed=0, share=0.7):
    size = tuple(round(share * n) for n in batch.space)
    return two_views(batch, specimen, imaging, density, size, (margin,) * batch.ndim, stream(seed))


@pytest.mark.parametrize("ndim", [2, 3])
def test_both_views_show_the_same_at_each_point(ndim):
    flat = ANISOTROPIC["elastic"] if ndim == 3 else {}
    specimen = [a.model_copy(update=flat) if a.kind == "elastic" else a for a in default_specimen()]
    sample = views(tissue(ndim), specimen, density=0.05)
    assert sample.kept.sum() > 20
    seen = [at_points(view.image, view.points.nan_to_num())[sample.kept] for view in (sample.first, sample.second)]
    assert (seen[0] - seen[1]).abs().max() < 0.25 * seen[0].std()
    assert np.corrcoef(seen[0][:, 0], seen[1][:, 0])[0, 1] > 0.99
    assert (sample.first.points - sample.second.points)[sample.kept].abs().mean() > 2


def test_the_views_are_drawn_one_by_one_and_the_same_again():
    batch = tissue(2, batch=1)
    specimen = [Rotate(p=1.0, degrees=Uniform(low=0, high=90)), Mirror()]
    first, again = (views(batch, specimen, default_imaging(), seed=4) for _ in range(2))
    other = views(batch, specimen, default_imaging(), seed=5)
    for one, two in ((first.first, again.first), (first.second, again.second)):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.points, two.points)
    assert not torch.equal(first.first.image, first.second.image)
    assert not torch.equal(first.first.image, other.first.image)
    noisy = views(batch, (), [Noise(p=1.0, std=(0.1, 0.1))])
    assert not torch.equal(noisy.first.image, noisy.second.image)


def test_only_points_within_both_views_are_kept():
    batch = tissue(2)
    sample = views(batch, default_specimen(), margin=6, density=0.1)
    given = tuple(n - 12 for n in sample.first.image.shape[2:])
    for view in (sample.first, sample.second):
        kept = view.points[sample.kept] - 6
        assert inside(kept[None], given).all()
    lost = ~inside(sample.first.points - 6, given) | ~inside(sample.second.points - 6, given)
    assert torch.equal(lost, ~sample.kept)
    assert lost.any()


def test_points_lie_where_the_image_is_and_are_as_dense_as_said():
    valid = torch.zeros(1, 1, 40, 60)
    valid[..., 10:30, 20:] = 1
    points = draw_points(valid, 0.5, stream(0))[0]
    there = points[~points.isnan().any(-1)]
    assert len(points) == 1200
    assert len(there) == pytest.approx(0.5 * 20 * 40, rel=0.15)
    assert ((there >= torch.tensor([9.5, 19.5])) & (there < torch.tensor([29.5, 59.5]))).all()
    assert (there % 1 - 0.5).abs().max() > 0.4
