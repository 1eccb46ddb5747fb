import json

import numpy as np
import pytest

from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest
from flows.command.main import main
from flows.messages import describe
from models.data.train_val import load_splits
from models.metrics.scores import split_score
from models.metrics.zero_shot import predict_zero_shot
from models.regions.prompts import FixedPrompts
from models.regions.zero_shot import Moments
from models.runs.folder import PREDICTIONS
from models.stages.score_head import HEADER
from models.stages.zero_shot import ZERO_SHOT, zero_shot
from tests.helpers.synthetic import N_FRAMES, Planted, plant

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def unlabelled(planted, tmp_path):
    """A manifest of the same clips without labels or splits."""
    path = planted.manifest.with_name("unlabelled.jsonl")
    clips = read_manifest(planted.manifest).clips
    bare = [clip.model_copy(update={"labels": None, "split": None}) for clip in clips]
    write_manifest(path, bare)
    return path


def run(planted, output, **keys):
    given = {"manifest": planted.manifest, "store": planted.store, "output": output}
    return zero_shot(**(given | keys))


def predicted(output) -> np.ndarray:
    """V and A of every row in the file."""
    lines = (output / PREDICTIONS).read_text().splitlines()
    assert lines[0] == ",".join(HEADER)
    return np.array([[float(cell) for cell in line.split(",")[-2:]] for line in lines[1:]])


def test_every_row_is_predicted_and_annotated_splits_are_scored(planted, tmp_path):
    result = run(planted, tmp_path / "o", scale=20.0, width_s=0.4)
    assert (result.match, result.n_clips) == ("train", 9)
    assert result.n_frames == 9 * N_FRAMES + 1  # the first val clip has a label row more
    assert len(predicted(tmp_path / "o")) == result.n_frames
    splits = load_splits(planted.manifest, planted.store)
    assert list(result.scores) == ["train", "val"]  # test has no labels
    found = predict_zero_shot(splits.val, splits.read_regions(FixedPrompts()), result.settings)
    assert result.scores["val"] == split_score(found, splits.val, splits.subject_by_clip)
    rows = splits.train.va_valid & splits.train["visual"].valid
    assert result.settings.wanted == Moments.of(splits.train.va[rows].numpy())
    assert result.settings.scale == (20.0, 20.0)
    written = json.loads((tmp_path / "o" / ZERO_SHOT).read_text())
    assert written["match"] == "train"
    assert written["scores"]["val"]["ccc_mean"] == result.scores["val"].ccc_mean
    said = list(describe(result))
    assert said[0].startswith(f"zero-shot: {result.n_frames} frames of 9 clips predicted, matched")
    assert "train split's labels" in said[0]
    assert [line.split(":")[0].strip() for line in said[1:]] == ["train", "val"]


def test_clips_without_labels_get_the_published_moments(planted, unlabelled, tmp_path):
    result = run(planted, tmp_path / "o", manifest=unlabelled)
    assert (result.match, result.scores) == ("published", {})
    found = predicted(tmp_path / "o")
    # clipping, and rows without a face, change little
    np.testing.assert_allclose(found.mean(axis=0), [0.074, 0.297], atol=0.03)
    np.testing.assert_allclose(found.std(axis=0), [0.402, 0.298], atol=0.05)
    (line,) = describe(result)
    assert "matched to the published mean and deviation" in line


def test_without_matching_the_barycentre_is_written(planted, unlabelled, tmp_path):
    result = run(planted, tmp_path / "o", manifest=unlabelled, match="none", width_s=0.0)
    found = predicted(tmp_path / "o")
    assert np.abs(found).max() < 0.66  # within the centres
    assert result.settings.wanted == Moments((0.0, 0.0), (1.0, 1.0))
    other = run(planted, tmp_path / "p", manifest=unlabelled, match="none", width_s=2.0)
    assert np.ptp(predicted(other.output)[:N_FRAMES], axis=0).max() < np.ptp(found[:N_FRAMES])


def test_the_texts_decide(planted, unlabelled, tmp_path):
    each = [
        run(planted, tmp_path / control, manifest=unlabelled, prompts=FixedPrompts(control=control))
        for control in ("none", "permuted")
    ]
    assert np.abs(np.subtract(*(predicted(result.output) for result in each))).max() > 0.01


def test_the_folder_is_replaced_whole_and_only_if_it_is_the_stage_s_own(planted, tmp_path):
    run(planted, tmp_path / "o")
    before = (tmp_path / "o" / PREDICTIONS).read_bytes()
    (tmp_path / "o" / PREDICTIONS).write_text("clip,frame\nanother,1\n")
    run(planted, tmp_path / "o")
    assert (tmp_path / "o" / PREDICTIONS).read_bytes() == before
    (tmp_path / "o" / "head.safetensors").write_text("")
    with pytest.raises(InputError, match="files that do not belong to zero-shot; give another"):
        run(planted, tmp_path / "o")


def test_labels_to_match_must_be_there(planted, unlabelled, tmp_path):
    with pytest.raises(InputError, match="no row of the split 'train' is annotated"):
        run(planted, tmp_path / "o", manifest=unlabelled, match="train")
    assert not (tmp_path / "o").exists()


def test_the_command_takes_the_keys_and_names_wrong_ones(planted, tmp_path, capsys):
    words = ["run", "zero-shot", f"manifest={planted.manifest}", f"store={planted.store}"]
    assert main([*words, f"output={tmp_path / 'o'}", "prompts.control=random"]) == 0
    assert "val: CCC valence" in capsys.readouterr().out
    written = json.loads((tmp_path / "o" / ZERO_SHOT).read_text())
    assert written["prompts"]["control"] == "random"
    for wrong, message in (
        ("scale=0", "greater than 0"),
        ("width_s=-1", "greater than or equal to 0"),
        ("match=val", "'train', 'published' or 'none'"),
        ("prompts.texts=none", "there are no region texts 'none'"),
    ):
        assert main([*words, f"output={tmp_path / 'p'}", wrong]) == 2
        assert message in capsys.readouterr().err
