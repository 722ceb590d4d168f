"""A share of a GPU's memory is asked of PyTorch for each GPU, and of nothing that is none."""

import pytest
import torch

from lamella.core.errors import UserError
from lamella.train.config import TrainerConfig, accelerator, limit_memory


def test_each_gpu_of_a_run_is_limited(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, gpu: asked.append((share, gpu)))
    config = TrainerConfig(device="cuda:0,2", gpu_memory=0.25)
    limit_memory(config, *accelerator(config))
    assert asked == [(0.25, 0), (0.25, 2)]
    free = TrainerConfig(device="cuda:1")
    limit_memory(free, *accelerator(free))
    assert len(asked) == 2


def test_a_cpu_has_no_such_share():
    with pytest.raises(UserError, match=r"gpu_memory 0.5 limits a GPU, and the device is cpu"):
        accelerator(TrainerConfig(device="cpu", gpu_memory=0.5))
    with pytest.raises(ValueError, match="less than or equal to 1"):
        TrainerConfig(gpu_memory=1.5)
