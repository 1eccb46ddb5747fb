"""RetinaFace with weights that are not trained, against a slow reference.

With trained weights the network was compared once with ONNX Runtime 1.x: ten photographs, outputs
that differ by at most 6e-5 (see features/faces/convert_retinaface.py).
"""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from features.errors import WeightsError
from features.faces.retinaface import RetinaFaceConfig
from features.synthetic.people import draw_people
from tests.helpers.retinaface_reference import faces, seeded_weights

PICTURE = draw_people()[:96, :160]


@pytest.fixture(scope="module")
def weights():
    return seeded_weights()


def build(folder, weights, **keys):
    save_file(weights, folder / "weights.safetensors")
    return RetinaFaceConfig(weights=folder / "weights.safetensors", **keys).build()


@pytest.mark.parametrize(("min_score", "max_overlap"), [(0.5, 0.4), (0.8, 0.1)])
def test_it_finds_what_a_slow_reference_finds(tmp_path, weights, min_score, max_overlap):
    found = build(tmp_path, weights, min_score=min_score, max_overlap=max_overlap).detect(PICTURE)
    expected = faces(weights, PICTURE, min_score, max_overlap)

    assert len(found) == len(expected) > 5
    for k, (score, box, landmarks) in enumerate(expected):
        assert found.scores[k] == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(found.boxes_px[k], box, atol=0.02)
        np.testing.assert_allclose(found.landmarks_px[k], landmarks, atol=0.02)


def test_a_torch_state_dict_is_read_as_its_authors_save_it(tmp_path, weights):
    parallel = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save(parallel, tmp_path / "zip.pth")
    torch.save(parallel, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "checkpoint.pth")
    expected = build(tmp_path, weights).detect(PICTURE)

    for name in ("zip", "legacy", "checkpoint"):
        found = RetinaFaceConfig(weights=tmp_path / f"{name}.pth").build().detect(PICTURE)
        np.testing.assert_array_equal(found.boxes_px, expected.boxes_px)


class Unsafe:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def test_a_pickle_that_could_run_code_is_refused(tmp_path, capsys):
    torch.save({"x": Unsafe()}, tmp_path / "unsafe.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "empty.pth").write_bytes(b"")

    for name in ("unsafe", "list", "empty"):
        with pytest.raises(WeightsError, match=f"{name}.pth holds no weights of RetinaFace"):
            RetinaFaceConfig(weights=tmp_path / f"{name}.pth").build()
    assert "code of the file ran" not in capsys.readouterr().out
