from itertools import islice

import torch

from lamella.data.sample import Layer, Sample
from lamella.train.batches import TrainingBatches, held_out_batches, loader


def take(num: int, **kwargs: int) -> list[list[int]]:
    return list(islice(TrainingBatches(**kwargs), num))


def test_batches_from_a_later_start_are_the_later_batches():
    assert take(5, batch_size=3)[2:] == take(3, batch_size=3, start=2)


def test_devices_together_take_each_index_once():
    batches = [take(4, batch_size=2, rank=rank, world=3) for rank in range(3)]
    seen = sorted(index for device in batches for batch in device for index in batch)
    assert seen == list(range(4 * 2 * 3))


def test_held_out_batches_hold_every_sample_once():
    assert held_out_batches(7, 3) == [[0, 1, 2], [3, 4, 5], [6]]


def test_samples_are_joined_along_the_batch():
    class Sections:
        def __getitem__(self, index: int) -> Sample:
            return Sample({"sections": Layer(torch.full((1, 2, 4, 4), float(index)), "image")})

    batch = next(iter(loader(Sections(), TrainingBatches(2, start=3), 0)))
    assert batch["sections"].tensor[:, 0, 0, 0].tolist() == [6, 7]
