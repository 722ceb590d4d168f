"""Laws of the align task: what a sample is, what each part of the loss asks for, and that it learns."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.sample import Layer, Sample
from lamella.ops.field import warp
from lamella.tasks.align import objective
from lamella.tasks.align.sample import DEFORMED, SOURCE, TARGET, KnownFields, neighbours, trimmed
from lamella.tasks.align.schedule import LevelByLevel
from lamella.tasks.align.task import AlignConfig, ConsensusTerm, _Fields

NET = {"levels": 3, "skip": 1, "kernel": 3, "features": 6, "channels": (16, 16), "correlation": 2}
GENTLE = {"amplitude": (1.0, 3.0), "spacing": (24.0, 48.0), "shift": 1.0}


def windows(batch=4, size=64, seed=0, masks=False):
    """Neighbours that share their structure but not their grain."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.rand(batch, 1, size, size, generator=generator).expand(-1, 3, -1, -1)
    own = torch.rand(batch, 3, size, size, generator=generator)
    sections = torch.nn.functional.avg_pool2d(0.8 * shared + 0.2 * own, 5, 1, 2) * 2 - 0.5
    layers = {"sections": Layer(sections.clamp(0.02, 1), "image")}
    if masks:
        inside = torch.zeros(batch, 3, size, size)
        inside[..., 20:24] = 2
        layers["masks"] = Layer(inside, "mask")
    return Sample(layers)


def task(**changes):
    torch.manual_seed(0)
    return AlignConfig.load({"net": NET, "known": GENTLE, "imaging": [], "specimen": [], "trim": 1, **changes}).build()


def test_the_known_field_leads_back_to_the_source():
    sample = task().sample(windows(), stream(0, "s"), True)
    back = warp(sample.shown[:, DEFORMED, None], sample.known)
    gap = ((back - sample.shown[:, SOURCE, None]).abs() * sample.known_valid)[..., 8:-8, 8:-8]
    assert gap.mean() < 0.02
    still = (sample.shown[:, DEFORMED] - sample.shown[:, SOURCE]).abs().mean()
    assert gap.mean() < 0.5 * still


def test_the_share_with_known_truth_has_the_source_as_target():
    sample = task(known={**GENTLE, "share": 0.5}).sample(windows(), stream(0, "s"), True)
    same = (sample.shown[:, SOURCE] == sample.shown[:, TARGET]).flatten(1).all(1)
    assert same.tolist() == [True, True, False, False]
    assert sample.num_identical == 2


def test_pairs_lie_up_to_apart_sections_from_each_other_in_either_order():
    levels = torch.arange(1, 6) / 10  # section z is z tenths grey
    stack = levels.view(1, 5, 1, 1).expand(400, 5, 4, 4)
    found = neighbours(Sample({"sections": Layer(stack, "image")}), stream(0, "s"), 40, apart=3)["sections"].tensor
    z = (found[:, :, 0, 0] * 10).round().int()
    assert torch.equal(z[:40, SOURCE], z[:40, TARGET])
    gaps = (z[40:, TARGET] - z[40:, SOURCE]).tolist()
    assert set(gaps) == {-3, -2, -1, 1, 2, 3}
    assert all(gaps.count(d) + gaps.count(-d) == pytest.approx(120, abs=30) for d in (1, 2, 3))


def test_sections_farther_apart_than_a_window_is_deep_are_refused():
    with pytest.raises(UserError, match=r"set data\.sections to 4"):
        task(apart=3).sample(windows(), stream(0, "s"), True)


def test_imaging_changes_what_is_shown_and_not_what_is_compared():
    build = task(imaging=[{"kind": "noise", "p": 1.0, "std": [0.2, 0.2]}])
    clean = task().sample(windows(), stream(0, "s"), True)
    noisy = build.sample(windows(), stream(0, "s"), True)
    assert (noisy.shown[:, TARGET, None] - noisy.pair.target).abs().mean() > 0.05
    torch.testing.assert_close(clean.shown[:, TARGET, None], clean.pair.target)
    assert torch.equal(build.sample(windows(), stream(0, "s"), False).shown[:, TARGET, None], clean.pair.target)


def test_the_same_stream_gives_the_same_sample():
    a, b, c = (task().sample(windows(), stream(0, "s", k), True) for k in (1, 1, 2))
    assert torch.equal(a.shown, b.shown)
    assert not torch.equal(a.shown, c.shown)


def test_trimming_keeps_the_middle():
    sample = trimmed(windows(size=64), 0.5)
    assert sample.space == (32, 32)
    torch.testing.assert_close(sample["sections"].tensor, windows(size=64)["sections"].tensor[..., 16:48, 16:48])


def test_every_part_of_the_loss_is_there_and_moves_the_net():
    build = task(consensus={"weight": 0.1, "ramp": 0.0})
    build.phases(10)
    parts = build.loss(build.sample(windows(masks=True), stream(0, "s"), True), 5)
    wanted = {"similarity", "smoothness", "known", "rotation", "round_trip", "deformation", "unrelated"}
    assert wanted <= set(parts)
    assert all(torch.isfinite(v) for v in parts.values())
    parts["total"].backward()
    silent = [n for n, p in build.net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_encodings_that_are_compared_take_no_gradient_and_leave_no_trace():
    build = task(similarity={"penalty": {"kind": "encodings"}})
    sample = build.sample(windows(), stream(0, "s"), True)
    fields = _Fields(build.net, sample, 1)
    before = {name: value.clone() for name, value in build.net.state_dict().items()}
    source, target = fields.clean(1)
    assert build.net.training
    assert not source.requires_grad
    assert not target.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in build.net.state_dict().items())
    parts = build.loss(sample, 0)
    parts["similarity"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in build.net.aligners.parameters())


def test_encodings_fit_where_sections_do():
    build = task(similarity={"penalty": {"kind": "encodings"}})
    sample = build.sample(windows(), stream(0, "s"), True)
    fields = _Fields(build.net, sample, 1)
    pair, still = fields.pair_at(1, True), torch.zeros(2, 2, 32, 32)
    fits, shifted = (
        objective.similarity(build.config.similarity, pair, f, fields.clean(1)) for f in (still, still + 3)
    )
    assert fits < 0.7 * shifted


def test_parts_without_weight_are_left_out():
    none = {"weight": 0, "round_trip": 0, "deformation": 0, "unrelated": 0}
    build = task(consensus=none, known_weight=0)
    parts = build.loss(build.sample(windows(), stream(0, "s"), True), 0)
    assert set(parts) == {"total", "moved", "similarity", "smoothness"}


def test_a_net_without_aligners_scores_what_a_zero_field_is_worth():
    build = task()
    for parameter in build.net.aligners.parameters():
        torch.nn.init.zeros_(parameter)
    sample = build.sample(windows(), stream(0, "s"), True)
    parts = build.loss(sample, 0)
    far = (sample.known[:2].square().sum(1, keepdim=True) * sample.known_valid[:2]).sqrt()
    assert parts["known"].item() == pytest.approx((far.sum() / sample.known_valid[:2].sum()).item(), abs=0.3)
    assert parts["smoothness"] == 0
    assert parts["moved"] == 0


def test_agreement_rises_with_the_steps():
    term = ConsensusTerm(ramp=0.3)
    assert [term.rise(p) for p in (0.0, 0.1, 0.2, 0.3, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert ConsensusTerm(ramp=0).rise(0.0) == 1


def test_level_by_level_trains_from_the_coarsest_down():
    schedule, net = LevelByLevel(share=0.6, tune_share=0.5), task().config.net
    phases = schedule.phases(net, 100)
    assert [p.start for p in phases] == [0, 15, 30, 45, 60]
    assert phases[0].train == {"aligners.2": 1.0, "encoders": 1.0}
    assert phases[2].train == {"aligners.1": 1.0}
    assert phases[1].train == phases[4].train == {"": 0.2}
    assert [schedule.stop_level(net, step, 100) for step in (0, 29, 30, 60, 99)] == [2, 2, 1, 1, 1]


def test_a_zero_field_is_named_with_advice():
    build = task()
    assert build.watch({"moved": 3.0, "step": 5000}) is None
    assert build.watch({"moved": 0.001, "step": 10}) is None
    assert "smoothness.weight" in (build.watch({"moved": 0.001, "step": 5000}) or "")


def train(build, steps, autocast=None):
    optimiser = torch.optim.Adam(build.net.parameters(), 5e-3)
    build.phases(steps)
    values = []
    for step in range(steps):
        with torch.no_grad():
            sample = build.sample(windows(), stream(0, "s", 0), True)  # always the same
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast is not None):
            parts = build.loss(sample, step)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
        values.append(parts["known"].item())
    return values


def test_it_overfits_one_sample():
    values = train(task(), 50)
    assert np.mean(values[-5:]) < 0.4 * values[0]


def test_it_learns_in_mixed_precision():
    values = train(task(), 30, autocast="bf16")
    assert np.isfinite(values).all()
    assert np.mean(values[-5:]) < 0.8 * values[0]


def test_compiled_parts_give_the_same_loss():
    """In a process of its own: the compiler cannot trace the type checks that tests add to every function."""
    program = """
import torch
from lamella.nets.aligner import AlignerConfig
torch.manual_seed(0)
net = AlignerConfig(levels=3, skip=1, kernel=3, features=6, channels=(8,), correlation=2).build()
pair = torch.rand(2, 2, 1, 40, 48)
plain = net(*pair)
net.compile(backend="aot_eager")
assert all(part._compiled_call_impl is not None for part in [*net.encoders.values(), *net.aligners.values()])
torch.testing.assert_close(net(*pair), plain, atol=1e-5, rtol=1e-4)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_panels_are_pictures():
    build = task()
    panels = build.panels(build.sample(windows(masks=True), stream(0, "s"), True))
    assert panels["pair.png"][:4] == b"\x89PNG"
    assert panels["field.png"][:4] == b"\x89PNG"
    assert panels["flicker.gif"][:3] == b"GIF"


def test_known_fields_stay_within_what_was_asked():
    known = KnownFields(amplitude=(4.0, 4.0), spacing=(48.0, 48.0), shift=0.0)
    assert known.draw(stream(0, "k"), (64, 80)).abs().max().item() == pytest.approx(4.0, rel=1e-3)
    with pytest.raises(ValueError, match="the smaller first"):
        KnownFields(amplitude=(4.0, 1.0))
