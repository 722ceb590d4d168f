"""Colours of embeddings: like embeddings have like colours, the first component is red, and another library agrees."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lamella.core.errors import UserError
from lamella.ops.principal import Principal, principal


def cloud(channels=6, n=500, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, channels)) * 3.0 ** -np.arange(channels) @ np.linalg.qr(rng.normal(size=(channels,) * 2))[0]
    )


def test_axes_are_those_of_scikit_learn():
    sample = cloud()
    theirs = PCA(3).fit(sample).components_
    ours = principal(sample).axes
    assert np.abs((ours * theirs).sum(1)) == pytest.approx(1, abs=1e-6)


def test_a_line_goes_from_dark_to_bright_red():
    values = np.linspace(0, 1, 101)
    line = np.stack([3 * values, 4 * values, 0 * values])
    red = principal(line.T).colours(line)[..., 0]
    assert (np.diff(red.astype(int)) >= 0).all()
    assert (red[0], red[-1]) == (0, 255)


def test_colours_are_those_of_the_fit_wherever_they_are_used():
    sample = cloud()
    fitted = principal(sample)
    again = Principal.from_dict(json.loads(json.dumps(fitted.to_dict())))
    maps = sample.T.reshape(6, 20, 25)
    assert np.array_equal(again.colours(maps)[3:7, 4:9], fitted.colours(maps[:, 3:7, 4:9]))


@pytest.mark.parametrize("channels", [1, 2])
def test_fewer_channels_than_colours(channels):
    picture = principal(cloud(channels)).colours(cloud(channels).T)
    assert picture.shape == (500, 3)
    assert picture[:, 0].std() > 10
    assert (picture[:, channels:] == picture[0, channels:]).all()


def test_other_channels_are_refused():
    with pytest.raises(UserError, match="5 channels do not fit components of 6"):
        principal(cloud()).colours(np.zeros((5, 4, 4)))
