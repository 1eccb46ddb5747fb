import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from features.clip import Clip
from features.errors import InputError, LaterVersion
from features.manifest.manifest import Manifest, read_manifest, write_manifest
from features.system.devices import torch_device
from flows.command.main import main
from flows.messages import ensemble_line
from models.data.splits import clips_over, deal_folds, subject_by_clip
from models.heads.dspl import DsplConfig
from models.metrics.ccc import Concordance
from models.metrics.predict import Prediction, mean_prediction
from models.metrics.smoothing import added, choose_windows, smooth, sums_by_window
from models.runs import threads
from models.runs.ensemble_record import EnsembleConfig, read_record, write_fold_manifests
from models.runs.folder import (
    CLIPS,
    CONFIG,
    ENSEMBLE,
    HEAD_FILE,
    INPUTS,
    METRICS,
    PREDICTIONS,
    PROVENANCE,
    REPORT,
    SCORES,
    SUBMISSION,
    read_config,
)
from models.runs.predictor import TrainedHead, open_model
from models.runs.run_split import open_split, read_split
from models.stages import train_ensemble as ensemble
from models.stages.export_head import export_head
from models.stages.score_head import score_head
from models.stages.train_ensemble import EnsembleResult, train_ensemble
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from tests.helpers.synthetic import Planted, plant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

HEAD = DsplConfig(width=8)
TRAIN = TrainConfig(
    epochs=1, window=40, stride=30, batch_size=4, learning_rate=1e-2, threads=1, device="cpu"
)
FOLDS = ("fold-1", "fold-2")
SPLITS = ("train",) * 5 + ("val",) * 2 + ("test",)


def with_subjects(planted: Planted) -> Planted:
    """The same set in which train-0 and train-3 show one person."""
    clips = [
        clip.model_copy(update={"subject": "anna"}) if clip.id in ("train-0", "train-3") else clip
        for clip in read_manifest(planted.manifest).clips
    ]
    write_manifest(planted.manifest, clips)
    return planted


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return with_subjects(plant(tmp_path_factory.mktemp("planted"), SPLITS))


@pytest.fixture
def small(tmp_path) -> Planted:
    """A set that a test may spoil."""
    return with_subjects(plant(tmp_path, SPLITS))


@pytest.fixture
def in_turn(monkeypatch):
    """Members one after the other in this process: the processes have a test of their own."""
    monkeypatch.setattr(ensemble, "map_in_processes", map)


def train(planted, run, **changes) -> EnsembleResult:
    wanted = {"head": HEAD, "train": TRAIN, "folds": 2, "over": "train"}
    wanted |= {"manifest": planted.manifest, "store": planted.store}
    return train_ensemble(run=run, **(wanted | changes))


@pytest.fixture(scope="module")
def trained(planted, tmp_path_factory) -> EnsembleResult:
    run = tmp_path_factory.mktemp("runs") / "ensemble"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "map_in_processes", map)
        return train(planted, run)


OF_A_SCORE = (SCORES, CLIPS, PREDICTIONS, SUBMISSION, REPORT)


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the ensemble that a test may spoil."""
    copy = tmp_path / "copy"
    shutil.copytree(trained.run, copy, symlinks=True, ignore=shutil.ignore_patterns(*OF_A_SCORE))
    return copy


def stamps(run: Path) -> dict[str, int]:
    """When each member's head was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in run.glob(f"fold-*/{HEAD_FILE}")}


# Folds --------------------------------------------------------------------------------------------


def clips_of(names) -> list[Clip]:
    return [Clip(id=f"c{k}", split="train", subject=name) for k, name in enumerate(names)]


@settings(deadline=None)  # the first call imports scikit-learn
@given(
    st.lists(st.sampled_from([None, "a", "b", "c", "d", "e"]), min_size=1, max_size=30),
    st.integers(2, 6),
    st.randoms(),
)
def test_folds_never_split_a_subject_and_hold_every_clip_once(names, folds, random):
    clips = clips_of(names)
    owner_of = subject_by_clip(clips)
    if len(set(owner_of.values())) < folds:
        with pytest.raises(InputError, match="a fold needs one of its own; give fewer folds"):
            deal_folds(clips, folds)
        return
    dealt = deal_folds(clips, folds)
    assert list(dealt) == [f"fold-{k}" for k in range(1, folds + 1)]
    assert all(dealt.values())
    ids = [clip.id for fold in dealt.values() for clip in fold]
    assert sorted(ids) == sorted(clip.id for clip in clips)
    owners = [{owner_of[clip.id] for clip in fold} for fold in dealt.values()]
    assert sum(len(owner) for owner in owners) == len(set(owner_of.values()))
    random.shuffle(clips)
    again = deal_folds(clips, folds)
    assert {k: {c.id for c in v} for k, v in again.items()} == {
        k: {c.id for c in v} for k, v in dealt.items()
    }


def test_folds_are_about_equal():
    dealt = deal_folds(clips_of([None] * 11), 5)
    assert sorted(len(fold) for fold in dealt.values()) == [2, 2, 2, 2, 3]


def test_a_subject_called_like_a_clip_is_someone_else():
    assert len(set(subject_by_clip(clips_of(["c1", None])).values())) == 2


def test_fold_manifests_split_anew_and_lead_to_the_same_files(planted, tmp_path):
    manifest = read_manifest(planted.manifest)
    (tmp_path / INPUTS).symlink_to(manifest.root)
    dealt = deal_folds(clips_over(manifest, "train"), 2)
    write_fold_manifests(tmp_path, manifest, dealt)
    for name, fold in dealt.items():
        found = read_manifest(tmp_path / f"{name}.jsonl")
        assert [clip.id for clip in found.clips] == [clip.id for clip in manifest.clips]
        by_split: dict[str | None, set[str]] = {}
        for clip, before in zip(found.clips, manifest.clips, strict=True):
            by_split.setdefault(clip.split, set()).add(clip.id)
            assert clip.subject == before.subject
            if before.labels:
                assert found.path(clip.labels).samefile(manifest.path(before.labels))
        own = {clip.id for clip in fold}
        assert by_split["val"] == own
        assert by_split["train"] == {f"train-{k}" for k in range(5)} - own
        assert by_split["test"] == {"test-7"}
        assert by_split[None] == {"val-5", "val-6"}


def test_every_path_of_a_clip_leads_through_the_link(tmp_path):
    whole = Clip(id="a", video="v.mp4", frames="f", labels="l.txt", audio="s.wav", split="train")
    write_fold_manifests(tmp_path, Manifest(tmp_path, (whole,)), {"fold-1": [whole]})
    (found,) = read_manifest(tmp_path / "fold-1.jsonl").clips
    paths = (found.video, found.frames, found.labels, found.audio)
    assert paths == ("inputs/v.mp4", "inputs/f", "inputs/l.txt", "inputs/s.wav")


# The whole ----------------------------------------------------------------------------------------


def test_each_member_is_a_plain_run_that_never_saw_its_fold(planted, trained):
    assert trained.state == "trained"
    assert trained.n_kept == 0
    record = trained.ensemble
    assert [member.folder for member in record.members] == ["fold-1", "fold-2"]
    held = [set(member.held_out) for member in record.members]
    assert held[0] | held[1] == {f"train-{k}" for k in range(5)}
    assert not held[0] & held[1]
    assert any({"train-0", "train-3"} <= fold for fold in held)
    for member, fold in zip(record.members, held, strict=True):
        folder = trained.run / member.folder
        made_by = json.loads((folder / PROVENANCE).read_text())
        assert set(made_by["inputs"]["clips"]["val"]) == fold
        assert set(made_by["inputs"]["clips"]["train"]) == (held[0] | held[1]) - fold
        kept = max(json.loads(x)["ccc_mean"] for x in (folder / METRICS).read_text().splitlines())
        assert member.ccc_mean == pytest.approx(kept)  # its val split is the fold


def out_of_fold(trained) -> list:
    """Each member's own reading of its fold."""
    folders = [trained.run / member.folder for member in trained.ensemble.members]
    return [read_split(open_split(folder, None, None, "val")) for folder in folders]


def of_all(readings, predictions) -> tuple[float, float]:
    truth = np.concatenate([reading.packed.va.numpy() for reading in readings])
    valid = np.concatenate([reading.packed.va_valid.numpy() for reading in readings])
    va = np.concatenate([each.va for each in predictions])
    return tuple(Concordance.of(truth[valid, k], va[valid, k]).ccc() for k in range(2))


def test_the_out_of_fold_score_by_hand(trained):
    readings = out_of_fold(trained)
    valence, arousal = of_all(readings, [reading.prediction for reading in readings])
    found = trained.ensemble.out_of_fold
    assert found.ccc_valence == pytest.approx(valence)
    assert found.ccc_arousal == pytest.approx(arousal)
    assert found.ccc_mean == pytest.approx((valence + arousal) / 2)
    assert (found.n_clips, found.n_subjects) == (5, 4)
    assert found.ccc_mean_low <= found.ccc_mean <= found.ccc_mean_high


def test_the_widths_are_chosen_by_all_folds_and_each_fold_is_scored_by_the_others(
    planted, run, in_turn, monkeypatch
):
    # what is said of fold 1 is noisy, so wide means are good for it; of fold 2 hardly at all
    def predicted(self, packed, *, regions=False):
        rng, va = np.random.default_rng(0), packed.va.numpy().copy()
        va += rng.normal(0, 0.3 if self.run.name == "fold-1" else 0.02, va.shape)
        return Prediction(va, np.zeros(len(va), dtype=bool))

    monkeypatch.setattr(TrainedHead, "predict", predicted)
    (run / ENSEMBLE).unlink()
    found = train(planted, run).ensemble
    readings = [read_split(open_split(run / name, None, None, "val")) for name in FOLDS]
    sums = [sums_by_window(reading.prediction, reading.packed) for reading in readings]
    one, two = (choose_windows(each) for each in sums)
    together = choose_windows(added(sums))
    assert one.valence > together.valence > two.valence
    assert found.widths_s == together
    crossed = [
        smooth(reading.prediction, reading.packed, widths)
        for reading, widths in zip(readings, (two, one), strict=True)
    ]
    valence, arousal = of_all(readings, crossed)
    assert found.out_of_fold_smoothed.ccc_valence == pytest.approx(valence)
    assert found.out_of_fold_smoothed.ccc_arousal == pytest.approx(arousal)


def test_labels_of_val_do_not_change_an_ensemble_over_train(small, in_turn, tmp_path):
    first = train(small, tmp_path / "one")
    for path in small.manifest.parent.glob("val-*.txt"):
        n_rows = len(path.read_text().splitlines()) - 1
        path.write_text("valence,arousal\n" + "0.9,-0.9\n" * n_rows)
    assert train(small, tmp_path / "one").state == "present"
    again = train(small, tmp_path / "two")
    assert again.ensemble == first.ensemble


def test_over_train_and_val_holds_the_clips_of_both(planted, in_turn, tmp_path):
    found = train(planted, tmp_path / "run", over="train+val").ensemble
    assert found.clip_ids == {*(f"train-{k}" for k in range(5)), "val-5", "val-6"}
    assert found.out_of_fold.n_clips == 7
    result = score_head(run=tmp_path / "run", split="val")
    (note,) = result.notes
    assert note.startswith("2 of 2 clips were trained on (over = train+val): this is no score on")
    assert f"out-of-fold mean CCC is {found.out_of_fold.ccc_mean:.3f}" in note
    assert score_head(run=tmp_path / "run", split="val").notes == (note,)
    assert json.loads((tmp_path / "run" / CLIPS).read_text())["val"]["notes"] == [note]
    assert "Beware:" in (tmp_path / "run" / REPORT).read_text()
    assert "trained on" not in score_head(run=tmp_path / "run", split="test").notes[0]


def test_some_clips_that_were_trained_on_are_noted(planted, run, tmp_path):
    clips = [
        clip.model_copy(update={"split": "val"}) if clip.id == "train-1" else clip
        for clip in read_manifest(planted.manifest).clips
    ]
    manifest = planted.manifest.with_name("mixed.jsonl")
    write_manifest(manifest, clips)

    (note,) = score_head(run=run, manifest=manifest).notes

    assert note.startswith("1 of 3 clips were trained on (over = train): this is no score on new")


def test_members_that_train_at_once_share_the_cores(planted, in_turn, tmp_path, monkeypatch):
    for module in (ensemble, threads):
        monkeypatch.setattr(module, "n_cores", lambda: 4)
    # more threads than cores would wait for each other; test_train_head.py has a test of the number
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)

    train(planted, tmp_path / "shared", train=TRAIN.model_copy(update={"threads": None}))
    train(planted, tmp_path / "given", train=TRAIN.model_copy(update={"threads": 3}))

    for name in FOLDS:
        assert read_config(tmp_path / "shared" / name).train.threads == 2
        assert read_config(tmp_path / "given" / name).train.threads == 3
    assert read_config(tmp_path / "shared", EnsembleConfig).train.threads is None


def test_all_members_and_scores_read_one_packed_file(small, in_turn, tmp_path):
    run = tmp_path / "run"
    train(small, run, over="train+val")
    score_head(run=run, split="val")
    score_head(run=run / "fold-1", split="val")

    assert len(list(Path(small.store + ".work").glob("banks/*"))) == 1


# Resuming -----------------------------------------------------------------------------------------


def test_a_finished_ensemble_is_left_alone(planted, run, in_turn):
    train(planted, run)  # its config names the copy's paths from now on
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    again = train(planted, run)
    assert (again.state, again.n_kept) == ("present", 2)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before
    assert read_config(run, EnsembleConfig).run == run.resolve()


def test_its_own_config_repeats_it(trained, in_turn, tmp_path):
    fields = yaml.safe_load((trained.run / CONFIG).read_text())
    config = EnsembleConfig.model_validate(fields | {"run": tmp_path / "again"})
    again = train_ensemble(**{name: getattr(config, name) for name in EnsembleConfig.model_fields})
    assert again.ensemble == trained.ensemble


def test_killed_between_members_it_goes_on_with_the_next(planted, tmp_path, monkeypatch):
    def killed(function, items):
        yield function(items[0])
        raise KeyboardInterrupt

    run, seen = tmp_path / "run", []
    monkeypatch.setattr(ensemble, "map_in_processes", killed)
    with pytest.raises(KeyboardInterrupt):
        train(planted, run, on_member=lambda member, total: seen.append((member.state, total)))
    first = stamps(run)
    assert list(first) == ["fold-1"]
    with pytest.raises(InputError, match="is not finished; run train-ensemble again: what is don"):
        score_head(run=run)
    monkeypatch.setattr(ensemble, "map_in_processes", map)
    result = train(planted, run, on_member=lambda member, total: seen.append((member.state, total)))
    assert result.n_kept == 1
    assert seen == [("trained", 2), ("present", 2), ("trained", 2)]
    assert stamps(run)["fold-1"] == first["fold-1"]


def test_killed_before_the_first_member_the_folder_is_still_its_own(
    planted, in_turn, tmp_path, monkeypatch
):
    def killed():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("models.runs.folder.provenance", killed)
        with pytest.raises(KeyboardInterrupt):
            train(planted, tmp_path / "run")
    (tmp_path / "run" / PROVENANCE).write_text("{}")  # or a moment later
    assert train(planted, tmp_path / "run").state == "trained"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"no head")])
def test_a_member_that_is_lost_is_made_again_alone(planted, run, trained, in_turn, spoil):
    before = stamps(run)
    spoil(run / "fold-2" / HEAD_FILE)
    with pytest.raises(
        InputError, match=r"fold-2/head.safetensors, a member of .* is (gone|anoth)"
    ):
        score_head(run=run)
    result = train(planted, run)
    assert (result.state, result.n_kept) == ("trained", 1)
    assert result.ensemble == trained.ensemble
    assert stamps(run)["fold-1"] == before["fold-1"]
    assert score_head(run=run).state == "scored"


def test_force_trains_every_member_anew(planted, run, in_turn):
    before = stamps(run)
    result = train(planted, run, force=True)
    assert (result.state, result.n_kept) == ("trained", 0)
    assert all(stamp != before[name] for name, stamp in stamps(run).items())


def test_other_folds_take_the_place_of_the_old_ones(planted, run, in_turn):
    score_head(run=run)
    train(planted, run, folds=3)
    assert set(stamps(run)) == {"fold-1", "fold-2", "fold-3"}
    assert not (run / SCORES).exists()
    (run / "fold-of-mine").mkdir()
    train(planted, run, folds=2)
    assert set(stamps(run)) == {"fold-1", "fold-2"}
    assert not (run / "fold-3.jsonl").exists()
    assert (run / "fold-of-mine").exists()


def test_a_damaged_record_is_made_again(planted, run, trained, in_turn):
    (run / ENSEMBLE).write_text("{")
    with pytest.raises(InputError, match=r"ensemble.json is not JSON .*; run train-ensemble again"):
        score_head(run=run)
    result = train(planted, run)
    assert (result.state, result.n_kept) == ("trained", 2)
    assert result.ensemble == trained.ensemble


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: {**fields, "extra": 1}, "unknown key 'extra'.*; train it again"),
        (lambda fields: [], "is not a record of an ensemble: it holds no keys; train it again"),
        (lambda fields: {**fields, "members": fields["members"][:1]}, "members"),
    ],
)
def test_a_record_of_another_shape_is_refused(run, change, message):
    fields = json.loads((run / ENSEMBLE).read_text())
    (run / ENSEMBLE).write_text(json.dumps(change(fields)))
    with pytest.raises(InputError, match=message):
        read_record(run)


def test_a_later_vaflow_s_ensemble_is_neither_read_nor_replaced(planted, run, in_turn):
    fields = json.loads((run / ENSEMBLE).read_text())
    (run / ENSEMBLE).write_text(json.dumps({**fields, "format": "vaflow-ensemble-2"}))
    message = "of format 'vaflow-ensemble-2', this vaflow reads 'vaflow-ensemble-1'; .*force=true"
    with pytest.raises(LaterVersion, match=message):
        score_head(run=run)
    with pytest.raises(LaterVersion, match=message):
        train(planted, run)
    assert train(planted, run, force=True).state == "trained"


def test_a_moved_manifest_and_store_are_found_again(planted, run, in_turn, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(planted.manifest.parent, moved)
    result = train(
        planted, run, manifest=moved / "manifest.jsonl", store=str(moved / "features.zarr")
    )
    assert result.state == "present"
    assert (run / INPUTS).readlink() == moved
    assert score_head(run=run / "fold-1", store=str(moved / "features.zarr")).state == "scored"
    assert score_head(run=run).state == "scored"


KEYS = [
    "train.epochs=1",
    "train.window=40",
    "train.stride=30",
    "train.threads=1",
    "train.device=cpu",
]


# the command, whose processes are all killed when the result of the first member arrives
KILLED = """
import os, signal, sys
from features.system.parallel import map_in_processes
from flows.command.main import main
from models.stages import train_ensemble

def killed(function, items):
    for _ in map_in_processes(function, items):
        os.killpg(0, signal.SIGKILL)
    yield

train_ensemble.map_in_processes = killed
main(sys.argv[1:])
"""


def test_processes_that_are_killed_leave_what_is_done(planted, tmp_path, monkeypatch, capfd):
    """By the real command in real processes, killed once a member is there; then run again."""
    run, root = tmp_path / "run", Path(ensemble.__file__).parents[2]
    command = [
        *("run", "train-ensemble", f"run={run}", "folds=3", "over=train"),
        *(f"manifest={planted.manifest}", f"store={planted.store}"),
        *("head={kind: dspl, width: 8}", *KEYS),
    ]
    monkeypatch.setenv("PYTHONPATH", str(root))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *command], start_new_session=True, cwd=root, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    first = stamps(run)
    assert "fold-1" in first
    assert not (run / ENSEMBLE).exists()
    monkeypatch.setattr(ensemble, "map_in_processes", map)
    assert main(command) == 0
    said = capfd.readouterr().out
    assert f"3 members, {len(first)} of them there already; out-of-fold CCC valence" in said
    assert first.items() <= stamps(run).items()
    assert main(command) == 0
    assert "holds this very ensemble of 3 already; nothing to train" in capfd.readouterr().out


# Scoring ------------------------------------------------------------------------------------------


def test_the_prediction_is_the_smoothed_mean_of_the_members(run, trained):
    fields = json.loads((run / ENSEMBLE).read_text())
    fields["widths_s"] = {"valence": 0.4, "arousal": 0.0}
    (run / ENSEMBLE).write_text(json.dumps(fields))
    reading = read_split(open_split(run, None, None, "val"), regions=True)
    members = [
        read_split(open_split(run / name, reading.source.manifest, None, "val")).prediction
        for name in FOLDS
    ]
    mean = (members[0].va + members[1].va) / 2
    np.testing.assert_allclose(reading.prediction.va[:, 1], mean[:, 1], atol=1e-12)
    spans = dict(reading.packed.spans())
    for span in spans.values():  # .4 s are 5 rows on either side, of .04 s each
        rows = mean[span, 0]
        by_hand = [rows[max(0, k - 5) : k + 6].mean() for k in range(len(rows))]
        np.testing.assert_allclose(reading.prediction.va[span, 0], by_hand, atol=1e-9)
    lowest, highest = reading.prediction.band
    np.testing.assert_allclose((lowest + highest) / 2, reading.prediction.va, atol=1e-9)  # of two
    np.testing.assert_allclose(highest[:, 1], np.maximum(members[0].va, members[1].va)[:, 1])
    assert (reading.prediction.interpolated == members[0].interpolated).all()
    assert not np.array_equal(members[0].va, members[1].va)


def test_a_mean_by_hand():
    gap = np.array([False, True])
    both = [Prediction(np.array(va), gap) for va in ([[0.2, 1.0], [0, 0]], [[0.4, 0.0], [1, -1.0]])]
    found = mean_prediction(both)
    np.testing.assert_allclose(found.va, [[0.3, 0.5], [0.5, -0.5]])
    assert (found.interpolated == gap).all()


def test_an_ensemble_is_scored_as_a_head_is(run):
    result = score_head(run=run)
    assert result.state == "scored"
    assert result.notes == ()
    assert result.score.n_clips == 2
    assert json.loads((run / SCORES).read_text())["val"]["ccc_mean"] == result.score.ccc_mean
    assert (run / PREDICTIONS).is_file()
    assert score_head(run=run).state == "present"
    assert score_head(run=run, split="test").score is None
    assert (run / SUBMISSION).is_file()
    (note,) = score_head(run=run, split="train").notes
    assert note.startswith("5 of 5 clips were trained on (over = train)")


def test_other_widths_make_another_score(run):
    first = score_head(run=run)
    fields = json.loads((run / ENSEMBLE).read_text())
    fields["widths_s"] = {"valence": 6.0, "arousal": 8.0}
    (run / ENSEMBLE).write_text(json.dumps(fields))
    again = score_head(run=run)
    assert again.state == "scored"
    assert again.score != first.score


def test_the_report_says_what_it_cannot_show_of_an_ensemble(run, capsys):
    score_head(run=run)
    text = (run / REPORT).read_text()
    assert "Each member of an ensemble has curves of its own" in text
    assert "An ensemble has a region branch per member" in text
    assert "Train the same ensemble again" in text
    assert "vaflow run train-ensemble -c" in text
    assert "Beware" not in text
    assert main(["report", str(run / "fold-1")]) == 0
    assert "has a region branch per" not in (run / "fold-1" / REPORT).read_text()


def test_what_is_said_to_a_person(trained):
    said = ensemble_line(trained)
    score, widths = trained.ensemble.out_of_fold, trained.ensemble.widths_s
    assert "2 members, 0 of them there already" in said
    assert f"mean {score.ccc_mean:.3f}; 95 % interval of the mean {score.ccc_mean_low:.3f}" in said
    assert f"widths {widths.valence:g} s (valence) and {widths.arousal:g} s (arousal)" in said


# Bad input ----------------------------------------------------------------------------------------


def test_a_folder_with_other_things_in_it_is_left_alone(planted, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(
        InputError, match="holds files that do not belong to an ensemble; give another folder"
    ):
        train(planted, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").rename(tmp_path / HEAD_FILE)
    with pytest.raises(InputError, match="holds a single head; give another folder"):
        train(planted, tmp_path)


def test_no_head_takes_the_place_of_an_ensemble(planted, run):
    keys = {"manifest": planted.manifest, "store": planted.store, "head": HEAD, "train": TRAIN}
    with pytest.raises(InputError, match="holds an ensemble; give another folder, or a member's"):
        train_head(run=run, **keys)
    (run / ENSEMBLE).unlink()  # begun
    with pytest.raises(InputError, match="holds an ensemble; give another folder, or a member's"):
        train_head(run=run, **keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 5}, "folds = 5: the clips show 4 subjects, and a fold needs one of its own"),
        ({"over": "train", "manifest": "no_train"}, "no clip of the split 'train', only of"),
        ({"manifest": "bare"}, "1 clips to train on have no labels in the manifest .train-1.;"),
        (
            {"manifest": "unannotated", "folds": 4},
            r"no row of fold-\d is annotated, its",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    small, in_turn, tmp_path, change, message
):
    clips = list(read_manifest(small.manifest).clips)
    folder = small.manifest.parent
    bare = [c.model_copy(update={"labels": None}) if c.id == "train-1" else c for c in clips]
    write_manifest(folder / "bare.jsonl", bare)
    write_manifest(folder / "no_train.jsonl", [c for c in clips if c.split != "train"])
    write_manifest(folder / "unannotated.jsonl", clips)
    if change.get("manifest") == "unannotated":
        n_rows = len((folder / "train-1.txt").read_text().splitlines()) - 1
        (folder / "train-1.txt").write_text("valence,arousal\n" + "-5,-5\n" * n_rows)
    if "manifest" in change:
        change = {**change, "manifest": folder / f"{change['manifest']}.jsonl"}
    with pytest.raises(InputError, match=message):
        train(small, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(planted, tmp_path):
    with pytest.raises(InputError, match="torch finds no GPU"):
        train(planted, tmp_path / "run", train=TRAIN.model_copy(update={"device": "cuda"}))
    assert not (tmp_path / "run").exists()
    assert torch_device("cpu").type == "cpu"


def test_an_ensemble_is_exported_by_its_members(run, tmp_path):
    with pytest.raises(InputError, match="ensemble of 2 heads; export each.*fold-1, .*fold-2"):
        export_head(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert isinstance(open_model(run / "fold-1"), TrainedHead)  # what the message names
