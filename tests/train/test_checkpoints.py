import pytest
import torch
from torch import nn

from lamella.core.errors import UserError
from lamella.train.checkpoints import load_weights, read_checkpoint, weights
from lamella.train.steps import WholeFiles


def net(hidden: int, *, head: bool = True) -> nn.Module:
    layers = {"body": nn.Linear(3, 2), "middle": nn.Linear(2, hidden)}
    return nn.ModuleDict({**layers, "head": nn.Linear(2, 1)} if head else layers)


def test_what_fits_is_loaded_and_the_rest_is_named():
    parent, child = net(5, head=False), net(4)
    before = {name: value.clone() for name, value in child.state_dict().items()}
    state = {**parent.state_dict(), "old.weight": torch.zeros(1)}
    loaded = load_weights(child, state, "run 'parent'")
    assert loaded.loaded == ("body.weight", "body.bias")
    assert loaded.mismatched == ("middle.weight", "middle.bias")
    assert loaded.missing == ("head.weight", "head.bias")
    assert loaded.unused == ("old.weight",)
    for name, value in child.state_dict().items():
        assert torch.equal(value, parent.state_dict()[name] if name in loaded.loaded else before[name])
    assert "2 of another shape: middle.weight, middle.bias" in loaded.summary()


def test_weights_of_which_nothing_fits_are_refused():
    with pytest.raises(UserError, match="nothing of run 'other' fits"):
        load_weights(net(4), {"x": torch.zeros(1)}, "run 'other'")


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    files = WholeFiles()
    files.save_checkpoint({"state_dict": {"net.a": torch.ones(2)}}, path)
    with pytest.raises(Exception, match="pickle"):
        files.save_checkpoint({"state_dict": {"net.a": torch.zeros(2)}, "bad": lambda: 0}, path)
    assert torch.equal(weights(read_checkpoint(path))["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot read checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")
