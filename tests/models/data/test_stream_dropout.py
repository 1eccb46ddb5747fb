import numpy as np
import torch

from models.data.batch import Targets
from models.data.stream_dropout import drop_streams
from tests.helpers.two_streams import two_stream_batch

N = 400


def test_one_stream_of_some_windows_is_masked_and_labels_follow_what_is_left():
    ones, valid = torch.ones(N, 3, 2), torch.ones(N, 3, dtype=torch.bool)
    seen = valid.clone()
    seen[:, 0] = False  # the first row has sound alone
    batch = two_stream_batch(ones * seen[..., None], seen, ones, valid)
    found, targets = drop_streams(batch, Targets(ones, valid), np.random.default_rng(0), 0.5)
    lost = {name: ~stream.valid[:, 1:].any(dim=1) for name, stream in found.streams.items()}
    for name, stream in found.streams.items():
        assert torch.equal(stream.values.any(dim=-1), stream.valid)  # 0 where not valid
        assert torch.equal(stream.valid[~lost[name]], batch[name].valid[~lost[name]])
        assert 0.18 < lost[name].float().mean() < 0.32  # half of the windows, either stream
    assert not (lost["visual"] & lost["audio"]).any()
    assert torch.equal(targets.valid[:, 0], ~lost["audio"])
    assert targets.valid[:, 1:].all()
    assert torch.equal(targets.va.any(dim=-1), targets.valid)


def test_without_probability_nothing_is_masked():
    ones, valid = torch.ones(4, 3, 2), torch.ones(4, 3, dtype=torch.bool)
    batch = two_stream_batch(ones, valid, ones, valid)
    found, targets = drop_streams(batch, Targets(ones, valid), np.random.default_rng(0), 0.0)
    assert all(stream.valid.all() for stream in found.streams.values())
    assert targets.valid.all()
