"""Laws of samples: one batch, one space, never changed, joined and taken apart without loss."""

import pickle

import pytest
import torch

from lamella.core.errors import UserError
from lamella.data.sample import Layer, Sample, collate


def pair(value: float = 0.5, batch: int = 1) -> Sample:
    return Sample(
        {
            "sections": Layer(torch.full((batch, 2, 6, 8), value), "image"),
            "truth": Layer(torch.zeros(batch, 2, 6, 8), "field", on=(1,), to=(0,)),
        }
    )


def test_updates_leave_the_sample_as_it_was():
    sample = pair()
    brighter = sample.with_tensors(sections=sample["sections"].tensor + 1)
    extended = sample.with_layers(masks=Layer(torch.zeros(1, 2, 6, 8), "mask"))
    assert sample["sections"].tensor.max() == 0.5
    assert brighter["sections"].tensor.max() == 1.5
    assert "masks" in extended
    assert "masks" not in sample
    assert brighter["truth"].on == (1,)


def test_collate_joins_along_the_batch():
    batch = collate([pair(0.1), pair(0.2), pair(0.3)])
    assert batch.batch == 3
    assert batch["sections"].tensor[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert batch["truth"].to == (0,)


def test_collate_fills_short_lists_of_points_with_nan():
    few = Sample({"image": Layer(torch.zeros(1, 1, 4, 4), "image"), "cells": Layer(torch.ones(1, 1, 2), "points")})
    many = few.with_layers(cells=Layer(torch.ones(1, 3, 2), "points"))
    points = collate([few, many])["cells"].tensor
    assert points.shape == (2, 3, 2)
    assert points[0].isnan().all(1).tolist() == [False, True, True]


def test_collate_refuses_samples_that_differ():
    with pytest.raises(UserError, match="crop the samples"):
        collate([pair(), Sample({n: Layer(v.tensor[..., :4], v.kind, v.on, v.to) for n, v in pair().items()})])
    with pytest.raises(UserError, match="different layers"):
        collate([pair(), pair().without("truth")])


def test_layers_must_share_batch_and_space():
    with pytest.raises(UserError, match="batch sizes"):
        pair().with_layers(masks=Layer(torch.zeros(2, 2, 6, 8), "mask"))
    with pytest.raises(UserError, match="spaces"):
        pair().with_layers(masks=Layer(torch.zeros(1, 2, 8, 8), "mask"))
    with pytest.raises(UserError, match="coordinates"):
        pair().with_layers(cells=Layer(torch.zeros(1, 5, 3), "points"))
    with pytest.raises(UserError, match="shape"):
        Layer(torch.zeros(4, 4), "image")


def test_a_sample_survives_pickling_and_moving():
    sample = pickle.loads(pickle.dumps(pair())).to("cpu")
    assert torch.equal(sample["sections"].tensor, pair()["sections"].tensor)
    assert sample.space == (6, 8)
    assert sample.ndim == 2


def test_a_data_loader_batches_samples():
    loader = torch.utils.data.DataLoader([pair(0.1), pair(0.2)], batch_size=2, collate_fn=collate)
    assert next(iter(loader)).batch == 2
