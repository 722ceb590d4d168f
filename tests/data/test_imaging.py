"""What single imaging augmentations do, by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.augment import (
    Blur,
    Brightness,
    Compress,
    ContrastCutouts,
    Gradients,
    Limit,
    MissingCutouts,
    Noise,
    NoiseCutouts,
    Tilings,
    default_imaging,
    show,
)
from lamella.data.augment.cutouts import box_noise
from lamella.data.augment.lighting import Line, Nothing
from lamella.data.augment.patterns import Waves
from lamella.data.augment.rectangles import Rectangles
from lamella.data.sample import Layer, Sample


def flat(level: float = 0.5, batch: int = 100, size: int = 32) -> Sample:
    return Sample({"sections": Layer(torch.full((batch, 2, size, size), level), "image")})


def shown(sample: Sample, each, seed: int = 1) -> torch.Tensor:
    return show(sample, [each], stream(seed))["shown"].tensor


def one_rectangle(centre: tuple[float, float], half: tuple[float, float], angle: float) -> Rectangles:
    shape = (1, 1, 1)
    return Rectangles(
        np.ones((1, 1), int),
        np.full((*shape, 2), centre, float),
        np.full((*shape, 2), half, float),
        np.full(shape, angle, float),
    )


def test_a_rectangle_by_hand():
    upright = one_rectangle((4, 5), (1, 2), 0)
    ((index, window),) = upright.present((10, 12))
    assert window == (slice(3, 6), slice(3, 8))
    assert upright.inside(index, window, torch.device("cpu")).all()
    turned = one_rectangle((4, 5), (1, 2), np.pi / 2)
    assert next(iter(turned.present((10, 12))))[1] == (slice(2, 7), slice(4, 7))
    diagonal = one_rectangle((10, 10), (3, 3), np.pi / 4)
    ((index, window),) = diagonal.present((20, 20))
    inside = diagonal.inside(index, window, torch.device("cpu"))
    assert inside.shape == (9, 9)
    assert inside.sum() == 41  # |dy| + |dx| <= 4


def test_rectangles_beyond_the_edge_are_clipped_or_passed_over():
    assert next(iter(one_rectangle((0, 0), (2, 2), 0).present((10, 10))))[1] == (slice(0, 3), slice(0, 3))
    assert list(one_rectangle((-9, 0), (2, 2), 0).present((10, 10))) == []


@pytest.mark.parametrize(("each", "share"), [(ContrastCutouts(), 0.5), (MissingCutouts(), 0.25), (NoiseCutouts(), 0.5)])
def test_cutouts_come_as_often_as_asked(each, share):
    changed = (shown(flat(batch=300), each) != 0.5).any(-1).any(-1).float().mean()
    assert changed == pytest.approx(share, abs=0.06)


def test_contrast_cutouts_multiply_by_up_to_two():
    ratio = shown(flat(), ContrastCutouts(p=1, most=1)) / 0.5
    assert ratio.min() >= 0.5
    assert ratio.max() <= 2
    assert (ratio > 1.5).any()
    assert (ratio < 0.75).any()


def test_missing_cutouts_say_where_they_are():
    sample = show(flat(), [MissingCutouts(p=1)], stream(2))
    changed = sample["shown"].tensor != sample["sections"].tensor
    assert torch.equal(changed, sample["cutouts"].tensor == 1)
    assert changed.any()


def test_the_other_families_void_no_similarity():
    families = [each for each in default_imaging() if each.kind != "missing_cutouts"]
    assert not show(flat(), families, stream(3))["cutouts"].tensor.any()


@pytest.mark.parametrize("radius", [0, 3, 10])
def test_smoothing_keeps_the_strength_of_noise(radius):
    noise = box_noise(5, (300, 300), radius, torch.zeros(1))
    assert noise.std() == pytest.approx(1, abs=0.12)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean()
    assert neighbours == pytest.approx(1 - 1 / (2 * radius + 1), abs=0.15)


def test_brightness_and_limit_by_hand():
    sample = flat(0.4, batch=1, size=2)
    line = Line(np.array([[2.0, 0.5]]), np.array([[0.3, 0.0]]))
    lit = Brightness().change(sample["sections"].tensor, line)
    assert lit[0, :, 0, 0].tolist() == pytest.approx([1.1, 0.2])
    assert Limit().change(lit, Nothing())[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.2])


def test_compression_stays_in_range():
    sections = torch.linspace(0.01, 1, 64).reshape(1, 1, 8, 8).repeat(200, 1, 1, 1)
    narrow = shown(Sample({"sections": Layer(sections, "image")}), Compress(p=1))
    assert narrow.max() <= 1 + 1e-6
    spread = narrow.amax((-1, -2)) - narrow.amin((-1, -2))
    assert spread.min() >= 0.99 / 3 - 1e-5
    assert spread.max() > 0.9


def test_a_triangle_wave_by_hand():
    one = np.ones((1, 1, 1))
    waves = Waves(np.ones((1, 1), int), 0.3 * one, np.pi / 2 * one, 2 * one, 0 * one)
    change = Gradients(most=1).change(torch.full((1, 1, 8, 8), 0.5), waves) - 0.5
    assert change[0, 0, 3].tolist() == pytest.approx([0.3, 0.15, 0, 0.15, 0.3, 0.15, 0, 0.15], abs=1e-5)
    assert torch.allclose(change, change[:, :, :1])


@pytest.mark.parametrize("each", [Gradients(p=1, most=1), Tilings(p=1)])
def test_shading_adds_at_most_its_peak(each):
    added = shown(flat(size=64), each) - 0.5
    assert added.min() > -1e-5
    assert 0.2 < added.max() <= each.peak[1] + 1e-5


def test_tiles_repeat_along_a_row():
    sample = flat(size=96, batch=20)
    added = shown(sample, Tilings(p=1, most=1, number=(8, 8))) - 0.5
    assert torch.allclose(added[..., :84], added[..., 12:], atol=1e-4)
    assert added.std((-1, -2)).max() > 0.03


def test_noise_has_the_strength_asked_for():
    noisy = shown(flat(size=128, batch=4), Noise(p=1, std=(0.05, 0.05)))
    assert noisy.std() == pytest.approx(0.05, rel=0.05)


def test_blur_averages_tissue_and_never_nothing():
    sections = torch.full((1, 1, 20, 20), 0.5)
    sections[..., :10] = 0
    out = shown(Sample({"sections": Layer(sections, "image")}), Blur(p=1, sigma=(2, 2)))
    assert torch.allclose(out, sections, atol=1e-5)
    dot = torch.full((1, 1, 21, 21), 1e-2)
    dot[..., 10, 10] = 1
    soft = shown(Sample({"sections": Layer(dot, "image")}), Blur(p=1, sigma=(1, 1)))
    assert soft[0, 0, 10, 10] == pytest.approx(0.01 + 0.99 / (2 * np.pi), rel=0.02)


@pytest.mark.parametrize("axes", [("y", "x"), ("z", "y", "x"), ("z",)])
def test_blur_of_an_image_is_that_of_scipy_and_0_an_intensity_like_others(axes):
    image = np.zeros((11, 24, 26), np.float32)
    image[5, 12, 13], image[4:7, 8:15, 4:9] = 3, 1
    sample = Sample({"image": Layer(torch.from_numpy(image)[None, None], "image")})
    out = shown(sample, Blur(p=1, sigma=(1.2, 1.2), axes=axes))[0, 0].numpy()
    sigma = [1.2 if axis in axes else 0 for axis in "zyx"]
    expected = ndimage.gaussian_filter(image, sigma, mode="constant", radius=[4 if s else 0 for s in sigma])
    mass = ndimage.gaussian_filter(np.ones_like(image), sigma, mode="constant", radius=[4 if s else 0 for s in sigma])
    assert np.allclose(out, expected / mass, atol=1e-4)


def test_imaging_needs_floats_and_one_clean_image():
    with pytest.raises(UserError, match="scale them"):
        show(Sample({"image": Layer(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "image")}), [], stream(0))
    pair = Sample({name: Layer(torch.zeros(1, 1, 4, 4), "image") for name in ("a", "b")})
    with pytest.raises(UserError, match="only image"):
        show(pair, [], stream(0))


def test_a_seed_reproduces_what_is_shown():
    first, second = (show(flat(batch=4), default_imaging(), stream(9))["shown"].tensor for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, show(flat(batch=4), default_imaging(), stream(10))["shown"].tensor)


@pytest.mark.parametrize(
    "each", [Noise(p=1, std=(0.05, 0.05)), NoiseCutouts(p=1, std=(0.05, 0.05)), ContrastCutouts(p=1)]
)
def test_the_darkest_tissue_never_becomes_missing(each):
    assert shown(flat(1 / 255, batch=4), each).min() >= 1 / 255 - 1e-7
