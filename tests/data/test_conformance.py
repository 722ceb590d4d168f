"""Laws that every augmentation obeys. A new one joins by being in its union; no test names it."""

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter

from lamella.core.rng import stream
from lamella.data.augment import CUTOUTS, SHOWN, Augment, Imaging, Specimen, show
from lamella.data.sample import Layer, Sample
from lamella.data.truth import seen, with_truth
from lamella.ops.field import smooth_field, warp

SPECIMEN = get_args(get_args(Specimen)[0])
IMAGING = get_args(get_args(Imaging)[0])
ALL = [*SPECIMEN, *IMAGING]
NEEDED: dict[str, dict[str, Any]] = {"crop": {"size": (64,)}}
# Those without a probability: what makes them do nothing. An augmentation that has a p does nothing at p = 0.
STILL: dict[str, dict[str, Any]] = {
    "crop": {"size": (72,)},
    "pad": {"total": 0},
    "jitter": {
        "max_shift": 0,
        "degrees": {"kind": "normal", "mean": 0, "std": 0},
        "scale": {"kind": "normal", "mean": 1, "std": 0},
    },
    "limit": {},
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def kind_of(cls: type[Augment]) -> str:
    return cls.model_fields["kind"].default


def surely(cls: type[Augment]) -> Augment:
    """One that happens wherever it can."""
    p = {"p": 1.0} if "p" in cls.model_fields else {}
    return cls.model_validate({**p, **NEEDED.get(kind_of(cls), {})})


def still(cls: type[Augment]) -> Augment:
    kind = kind_of(cls)
    return cls.model_validate(STILL[kind] if kind in STILL else {"p": 0.0, **NEEDED.get(kind, {})})


def stack(size: int = 72, batch: int = 2, device: str = "cpu") -> Sample:
    """Two sections of smooth tissue, the target a known warp of the source; the last sample's target is missing."""
    rng = stream(1)
    source = torch.cat([smooth_field(rng, (size, size), 0.3, 7.0)[:, :1] + 0.5 for _ in range(batch)])
    truth = torch.cat([smooth_field(rng, (size, size), 2.0, 30.0) for _ in range(batch)])
    target = warp(source, truth, padding="border")
    sections = torch.cat([source, target], 1)
    sections[-1, 1] = 0
    masks = torch.as_tensor(rng.choice([0, 1, 2], sections.shape, p=[0.996, 0.002, 0.002]), dtype=torch.float32)
    sample = Sample(
        {
            "sections": Layer(sections, "image"),
            "masks": Layer(masks, "mask"),
            "ids": Layer((masks * 3).long(), "label"),
            "cells": Layer(torch.full((batch, 2, 2), 30.0), "points", on=(0, 1)),
        }
    )
    return with_truth(sample, truth).to(device)


def tensors(sample: Sample) -> dict[str, torch.Tensor]:
    return {name: layer.tensor for name, layer in sample.items()}


def apply_both(each: Augment, sample: Sample, seed: int = 2) -> Sample:
    return each(sample, stream(seed, each.kind))


@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_identity_at_zero_strength(cls):
    sample = stack()
    after = tensors(apply_both(still(cls), sample))
    for name, before in tensors(sample).items():
        assert torch.equal(after[name], before), name
    if SHOWN in after:
        assert torch.equal(after[SHOWN], after["sections"])
        assert not after[CUTOUTS].any()


@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_same_params_same_output_and_the_input_is_untouched(cls):
    each, sample = surely(cls), stack()
    copies = {name: tensor.clone() for name, tensor in tensors(sample).items()}
    params = each.draw(stream(3), sample)
    first, second = tensors(each.apply(sample, params)), tensors(each.apply(sample, params))
    drawn_again = tensors(each.apply(sample, each.draw(stream(3), sample)))
    for name in first:
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], drawn_again[name]), name
    for name, copy in copies.items():
        assert torch.equal(sample[name].tensor, copy), name


@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_other_seeds_give_other_params(cls):
    each, sample = surely(cls), stack()
    outputs = [tensors(each(sample, stream(seed, "other"))) for seed in range(4)]
    same = [
        all(
            torch.equal(outputs[0][name], tensor)
            for name, tensor in other.items()
            if outputs[0][name].shape == tensor.shape
        )
        for other in outputs[1:]
    ]
    fixed = {"limit", "mirror", "transpose", "reverse"}  # no chance is left at p = 1
    assert not any(same) or each.kind in fixed


@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_values_keep_their_meaning(cls):
    sample = stack()
    after = apply_both(surely(cls), sample)
    assert set(after["masks"].tensor.unique().tolist()) <= {0, 1, 2}
    assert set(after["ids"].tensor.unique().tolist()) <= {0, 3, 6}
    for name, layer in after.items():
        assert layer.tensor.isfinite().all(), name
        if name in sample:
            assert layer.tensor.dtype == sample[name].tensor.dtype, name
            assert layer.kind == sample[name].kind, name


@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_missing_data_stay_missing(cls):
    missing = stack().with_tensors(sections=torch.zeros(2, 2, 72, 72))
    for seed in range(3):
        after = apply_both(surely(cls), missing, seed)
        assert not after["sections"].tensor.any()
        assert SHOWN not in after or not after[SHOWN].tensor.any()


@pytest.mark.parametrize("cls", IMAGING, ids=kind_of)
def test_imaging_changes_only_what_is_shown(cls):
    sample = stack()
    for seed in range(3):
        after = show(sample, [surely(cls)], stream(seed))
        assert all(after[name].tensor is sample[name].tensor for name in sample)
        assert ((after[SHOWN].tensor > 0) == (sample["sections"].tensor > 0)).all()
        assert set(after[CUTOUTS].tensor.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("cls", IMAGING, ids=kind_of)
def test_imaging_works_in_three_dimensions(cls):
    volume = Sample({"image": Layer(torch.rand(2, 2, 5, 24, 30).clamp(0.1, 0.9), "image")})
    after = show(volume, [surely(cls)], stream(4))
    assert after[SHOWN].tensor.shape == (2, 2, 5, 24, 30)
    assert kind_of(cls) == "limit" or not torch.equal(after[SHOWN].tensor, volume["image"].tensor)


@pytest.mark.parametrize("cls", SPECIMEN, ids=kind_of)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_known_stays_true(cls, seed):
    """Where ``seen``, looking where the truth says finds in the source what the target shows."""
    after = surely(cls)(stack(batch=3), stream(seed, kind_of(cls)))
    sections, masks, truth = after["sections"].tensor[:2], after["masks"].tensor[:2], after["truth"]
    (goal,), (start,) = truth.on, truth.to
    field = truth.tensor[:2]
    found = warp(sections[:, [start]], field)
    touched = ((sections == 0) | (masks == 2)).to(torch.float32)
    touched = F.max_pool2d(touched, 3, 1, 1)  # a damaged or missing pixel spoils its neighbours' interpolation
    spoilt = touched[:, [goal]] + (warp(touched[:, [start]], field, padding="border") > 0)
    clean = (seen(after)[:2] == 1) & (spoilt == 0)
    assert clean.float().mean() > 0.1
    error = (found - sections[:, [goal]])[clean].abs()
    assert error.quantile(0.99) < 0.02


@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_configs_survive_a_file(cls):
    adapter = TypeAdapter(Specimen if cls in SPECIMEN else Imaging)
    each = surely(cls)
    assert adapter.validate_json(adapter.dump_json(each)) == each
    assert adapter.validate_python(each.to_dict()) == each


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("cls", ALL, ids=kind_of)
def test_everything_stays_on_its_device(cls, device):
    sample = stack(device=device)
    after = apply_both(surely(cls), sample)
    assert {layer.tensor.device.type for layer in after.values()} == {device}


def test_the_known_field_of_the_stack_is_not_trivial():
    sample = stack()
    source, target = sample["sections"].tensor[:1, :1], sample["sections"].tensor[:1, 1:]
    found = warp(source, sample["truth"].tensor[:1], padding="border")
    assert (source - target).abs().mean() > 0.01
    assert torch.equal(found, target)
