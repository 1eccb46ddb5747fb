import base64
import hashlib
import json
import re
import shlex
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest
from flows.command.main import main
from models.heads.dspl import DsplConfig
from models.metrics.predict import RegionPosterior
from models.metrics.scores import clip_scores, split_score
from models.plots.svg import svg
from models.regions.soft_labels import soft_labels
from models.report.content import Content, content_of
from models.report.fusion_weights import FusionWeights
from models.report.html import MINUS, number, page
from models.report.references import Reference
from models.report.region_report import RegionReading, read_regions
from models.runs.folder import CONFIG, METRICS, PROVENANCE, REPORT, TEXTS_ALONE
from models.runs.run_split import RunSplit, open_split, read_split
from models.stages.report import report
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from models.stages.zero_shot import zero_shot
from models.training.config import EpochResult, TrainConfig
from models.training.loss_config import LossConfig
from tests.helpers.synthetic import N_FRAMES, plant

pytestmark = pytest.mark.slow

WITHOUT_FIGURES = pytest.mark.usefixtures("without_figures")  # for tests that look at none

TRAIN = TrainConfig(epochs=3, window=40, stride=30, batch_size=4, learning_rate=1e-2, threads=1)
KEY = "0" * 64


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"), ("train", "train", "val", "val", "test"))


@pytest.fixture(scope="module")
def trained(planted, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "trained"
    train_head(
        manifest=planted.manifest,
        store=planted.store,
        run=run,
        head=DsplConfig(width=8),
        train=TRAIN,
    )
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that a test may spoil."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("head.safetensors", CONFIG, METRICS, PROVENANCE):
        (folder / name).write_bytes((trained / name).read_bytes())
    return folder


def content_for(source: RunSplit) -> Content:
    predicted = read_split(source, regions=True)
    score = split_score(predicted.prediction, predicted.packed, source.subject_by_clip)
    return content_of(predicted, score, tuple(clip_scores(predicted.prediction, predicted.packed)))


@pytest.fixture(scope="module")
def content(trained) -> Content:
    return content_for(open_split(trained, None, None, "val"))


@pytest.fixture(scope="module")
def shown(content) -> str:
    return page(content, KEY)


class Outline(HTMLParser):
    """Every tag with its attributes, and the text of every element that has an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said.append(data)

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def test_scoring_leaves_a_report_of_an_annotated_split(run):
    score = score_head(run=run).score
    text = (run / REPORT).read_text()
    assert f"{score.ccc_mean:.3f}" in text
    assert f"{score.ccc_mean_low:.3f} to {score.ccc_mean_high:.3f}" in text.replace(MINUS, "-")
    assert "only 2 subjects" in text
    assert f"{2 * N_FRAMES} labels of 2\nclips" in text


@WITHOUT_FIGURES
def test_a_split_without_labels_leaves_the_report_alone(run):
    score_head(run=run, split="test")
    assert not (run / REPORT).exists()
    score_head(run=run)
    before = (run / REPORT).read_bytes()
    assert score_head(run=run, split="test", force=True).state == "scored"
    assert (run / REPORT).read_bytes() == before


@WITHOUT_FIGURES
def test_a_lost_report_is_made_again_and_nothing_else(run):
    score_head(run=run)
    whole = (run / REPORT).read_bytes()
    before = {file: file.stat().st_mtime_ns for file in run.iterdir() if file.name != REPORT}
    (run / REPORT).unlink()
    assert score_head(run=run).state == "present"
    assert (run / REPORT).read_bytes() == whole
    assert {file: file.stat().st_mtime_ns for file in before} == before


@WITHOUT_FIGURES
def test_the_report_is_of_the_split_scored_last(run):
    score_head(run=run)
    val = (run / REPORT).read_bytes()
    score_head(run=run, split="train")
    assert b"<strong>train</strong>" in (run / REPORT).read_bytes()
    assert score_head(run=run).state == "present"
    assert (run / REPORT).read_bytes() == val


@WITHOUT_FIGURES
def test_a_report_older_than_the_scores_is_made_again(run, monkeypatch):
    # killed between the scores and the report: the next scoring finds scores, but an old report
    score_head(run=run, split="train")
    old = (run / REPORT).read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("models.stages.report.write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            score_head(run=run)
    assert (run / REPORT).read_bytes() == old
    assert score_head(run=run).state == "present"
    assert b"<strong>val</strong>" in (run / REPORT).read_bytes()


def test_equal_inputs_give_equal_bytes(content, shown):
    assert page(content, KEY) == shown


@WITHOUT_FIGURES
def test_who_a_clip_shows_is_part_of_the_score(planted, run, tmp_path):
    assert score_head(run=run).score.n_subjects == 2
    clips = [
        clip.model_copy(update={"subject": "one"}) for clip in read_manifest(planted.manifest).clips
    ]
    manifest = planted.manifest.with_name("one.jsonl")
    write_manifest(manifest, clips)
    again = score_head(run=run, manifest=manifest)
    assert again.state == "scored"
    assert again.score.n_subjects == 1
    assert again.score.ccc_mean_low is None
    assert "one subject, so there is no interval" in (run / REPORT).read_text()


def test_every_section_is_there(shown):
    found = Outline(shown)
    assert {"scores", "learning", "plane", "errors", "regions"} <= set(found.ids())
    assert {"fusion", "clips", "making"} <= set(found.ids())
    assert {"clip-1", "clip-2"} <= set(found.ids())


def without_scripts(text: str) -> str:
    """The page without the data and the scripts at its end."""
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_the_page_asks_for_nothing(shown):
    text = without_scripts(shown)
    assert len(text) < len(shown) / 2
    assert "http:" not in text
    assert "https:" not in text
    assert "src=" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    found = Outline(shown)
    assert {"iframe", "object", "embed", "image", "img"}.isdisjoint(tag for tag, _ in found.tags)
    for tag, attrs in found.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert (attrs.get("href") or "#").startswith(("#", "data:,"))
        assert tag != "script" or "src" not in attrs
    policy = next(a for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy["content"].startswith("default-src 'none'")


def test_the_policy_allows_the_scripts_of_the_page_by_their_digests(shown):
    scripts = re.findall(r"<script>(.*?)</script>", shown, flags=re.DOTALL)
    assert len(scripts) == 2
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    policy = re.search(r'Policy" content="([^"]*)"', shown)[1]
    assert re.search(r"script-src (.*)", policy)[1].split() == [f"'sha256-{d}'" for d in digests]


HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def test_text_from_outside_is_escaped(content):
    course = content.curves[0]
    hostile = replace(
        content,
        run=HOSTILE,
        split=HOSTILE,
        config=HOSTILE,
        regions=HOSTILE,
        started_as=HOSTILE,
        commands=((HOSTILE, HOSTILE),),
        facts=((HOSTILE, HOSTILE),),
        curves=(replace(course, score=replace(course.score, clip=HOSTILE)),),
        by_subject=(replace(content.by_subject[0], name=HOSTILE),),
        references=(Reference(HOSTILE, 0.1, 0.2, 0.15),),
        references_note=f"`{HOSTILE}`",
        thumbnails_note=HOSTILE,
    )
    whole = page(hostile, KEY)
    assert whole.count("<script") == whole.count("</script>") == 3
    text = without_scripts(whole)
    assert "alert(1)" in text
    assert "<img" not in text
    found = Outline(text)
    assert not [attrs for _, attrs in found.tags if "onerror" in attrs]
    assert found.said.count(HOSTILE) >= 9  # as text, in each of its places
    labels = [attrs["aria-label"] for tag, attrs in found.tags if tag == "svg"]
    assert f"Valence and arousal of the clip {HOSTILE} over time" in labels


def test_ids_are_unique_and_every_reference_has_its_target(shown):
    text = shown
    ids = Outline(text).ids()
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="|url\()#([^")]+)', without_scripts(text))
    assert len(references) > 20
    assert set(references) <= set(ids)


def test_two_figures_of_one_course_share_no_id():
    def draw(figure):
        figure.subplots().plot([0, 1], [0, 1], "o-")

    ids = [set(Outline(svg(name, "a line", 300, 200, draw)).ids()) for name in ("one", "two")]
    assert all(ids)
    assert not ids[0] & ids[1]


def test_the_text_of_a_figure_is_text():
    def draw(figure):
        figure.subplots().set_title("words & <signs>")

    found = Outline(svg("one", "a title", 300, 200, draw))
    assert "words & <signs>" in found.said


def test_drawing_leaves_matplotlib_as_it_was(content):
    before = dict(matplotlib.rcParams)
    page(content, KEY)
    assert dict(matplotlib.rcParams) == before


def test_clips_come_worst_first_and_those_without_truth_last(content):
    a, b = content.curves
    assert a.score.ccc_valence + a.score.ccc_arousal <= b.score.ccc_valence + b.score.ccc_arousal
    nameless = replace(a, score=replace(a.score, ccc_valence=None, ccc_arousal=None))
    assert sorted([nameless, b], key=lambda course: course.sort_key) == [b, nameless]


def test_the_course_of_a_clip_shows_what_is_missing(content):
    # planted: row 10 is not annotated, rows 40 to 45 have no face, a row lies beyond the last frame
    course = next(course for course in content.curves if course.score.clip == "val-2")
    assert len(course.time_s) == N_FRAMES + 1
    assert np.flatnonzero(~course.annotated).tolist() == [10]
    assert np.flatnonzero(~course.seen).tolist() == [40, 41, 42, 43, 44, 45]
    assert course.n_without_face == 6


@WITHOUT_FIGURES
def test_the_texts_alone_are_scored_beside_the_head(planted, run, shown, tmp_path):
    found = zero_shot(
        manifest=planted.manifest, store=planted.store, output=tmp_path / "out", match="train"
    ).scores["val"]
    assert f"arousal {number(found.ccc_arousal)}.</p>" in shown
    (run / TEXTS_ALONE).write_text('{"settings": {}}')
    with pytest.raises(InputError, match="texts_alone.json is damaged"):
        report(run)
    (run / TEXTS_ALONE).unlink()  # as in a run of before
    assert "texts alone" not in report(run).read_text()


def test_gate_and_attention_are_weights_of_every_row(content):
    weights = content.weights
    assert isinstance(weights, FusionWeights)
    assert list(weights.gate) == ["visual", "audio"]
    assert list(weights.attention) == ["visual to audio"]
    np.testing.assert_allclose(sum(weights.gate.values()), 1, atol=1e-6)
    by_lag = weights.attention["visual to audio"]
    np.testing.assert_allclose(by_lag.sum(axis=1), 1, atol=1e-5)
    # windows of 40 rows, 0.04 s apart: up to 39 rows later, and never before the clip begins
    assert weights.lags_s[0] == pytest.approx(-weights.lags_s[-1])
    assert weights.lags_s[-1] == pytest.approx(1.6 * 20 / 21)
    course = next(c for c in content.curves if c.score.clip == "val-2")
    first = course.weights.attention["visual to audio"][0]
    assert not first[weights.lags_s < -0.1].any()
    assert first[weights.lags_s > 0.1].sum() > 0.5
    # planted: rows 40 to 45 have no face, so that only the sound is taken
    assert not course.weights.gate["visual"][40:46].any()
    assert course.weights.gate["visual"][:40].all()


def test_the_score_is_made_of_what_the_table_says(content):
    both = zip(
        (content.valence, content.arousal),
        (content.score.ccc_valence, content.score.ccc_arousal),
        strict=True,
    )
    for found, ccc in both:
        apart = (found.mean_truth - found.mean_predicted) ** 2
        below = found.std_truth**2 + found.std_predicted**2 + apart
        above = 2 * found.correlation * found.std_truth * found.std_predicted
        assert above / below == pytest.approx(ccc)


def test_regions_by_hand():
    # two frames in the top right corner region (8) and one in the middle (4); the branch gives
    # the middle to all: the recall of 8 is 0, that of 4 is 1
    va = torch.tensor([[0.66, 0.66], [0.66, 0.66], [0.0, 0.0], [0.9, -0.9]]).double()
    known = np.array([True, True, True, False])
    shares = np.full((4, 9), 0.01)
    shares[:, 4] = 0.92
    found = read_regions(RegionPosterior(shares, np.ones(4, dtype=bool)), va, known, 0.45)
    assert found.confusion.sum() == 3
    assert found.confusion[8, 4] == 2
    assert found.confusion[4, 4] == 1
    assert [recall for _, n_frames, recall in found.rows if n_frames] == [1, 0]
    assert found.rows[8][0] == "V+ A+"
    assert found.rows[2][0] == f"V{MINUS} A+"
    np.testing.assert_allclose(found.mean_posterior, shares[0])
    labels = soft_labels(va[:3], 0.45).numpy()
    np.testing.assert_allclose(found.mean_label, labels.mean(axis=0))
    by_loops = sum(
        p * np.log(p / q) / 3 for row in labels for p, q in zip(row, shares[0], strict=True)
    )
    assert found.kl == pytest.approx(by_loops)


def test_the_marginal_costs_as_much_as_the_constant_and_the_truth_nothing():
    va = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    known = np.ones(50, dtype=bool)
    labels = soft_labels(va, 0.45).numpy()
    mean = np.repeat(labels.mean(axis=0, keepdims=True), 50, axis=0)
    constant = read_regions(RegionPosterior(mean, known), va, known, 0.45)
    assert constant.relative_kl == pytest.approx(1)
    assert read_regions(RegionPosterior(labels, known), va, known, 0.45).kl == pytest.approx(0)


def test_confusion_counts_by_valence_then_arousal():
    va = torch.tensor([[0.9, -0.9], [0.9, -0.9], [-0.9, 0.0]]).double()
    posterior = np.full((3, 9), 0.01)
    posterior[[0, 1, 2], [6, 2, 1]] = 0.92
    known = np.ones(3, dtype=bool)
    found = read_regions(RegionPosterior(posterior, known), va, known, 0.45).confusion
    assert (found[6, 6], found[6, 2], found[1, 1]) == (1, 1, 1)  # high V and low A is 3 * 2 + 0
    assert found.sum() == 3


@pytest.mark.parametrize("n_rows", [1, 50])
def test_frames_of_one_soft_label_leave_nothing_to_compare_with(n_rows, content):
    va = torch.full((n_rows, 2), 0.3).double()
    known = np.ones(n_rows, dtype=bool)
    uniform = np.full((n_rows, 9), 1 / 9)
    found = read_regions(RegionPosterior(uniform, known), va, known, 0.45)
    assert found.relative_kl is None
    text = page(replace(content, regions=found), KEY)
    assert "there is nothing to compare with" in text
    assert "the head is at" not in text


def test_a_record_of_the_making_of_another_shape_is_named(run):
    (run / PROVENANCE).write_text(json.dumps({"inputs": [1], "versions": 3}))
    with pytest.raises(InputError, match=r"provenance.json of the run is damaged .*delete it"):
        report(run)


def test_a_folder_is_no_place_for_a_report(run, tmp_path):
    with pytest.raises(InputError, match="is a folder; name the file"):
        report(run, output=tmp_path)


def test_the_region_branch_is_read_with_the_prototypes_it_was_trained_with(content):
    found = content.regions
    assert isinstance(found, RegionReading)
    assert found.confusion.sum() == 2 * N_FRAMES - 6  # annotated, less those without a face
    assert found.mean_posterior.sum() == pytest.approx(1)
    assert found.mean_label.sum() == pytest.approx(1)


@WITHOUT_FIGURES
def test_a_branch_that_was_not_trained_is_not_shown(planted, tmp_path):
    train_head(
        manifest=planted.manifest,
        store=planted.store,
        run=tmp_path / "run",
        head=DsplConfig(width=8),
        train=TrainConfig(
            epochs=1, window=40, stride=30, batch_size=4, loss=LossConfig(region_weight=0)
        ),
    )
    score_head(run=tmp_path / "run")
    text = (tmp_path / "run" / REPORT).read_text()
    assert "was not trained: train.loss.region_weight is 0" in text
    assert "Mean posterior" not in text


def test_config_commands_and_provenance_are_told(shown, trained):
    said = "".join(Outline(shown).said)
    assert (trained / CONFIG).read_text() in said
    assert f"vaflow run train-head -c {trained}/config.yaml run={trained}-again" in said
    assert f"vaflow run score-head run={trained} split=val" in said
    assert f"vaflow report {trained} --split val" in said
    made_by = json.loads((trained / PROVENANCE).read_text())
    assert made_by["started_as"] == shlex.join(sys.orig_argv)
    for fact in (
        made_by["key"],
        made_by["started_as"],
        made_by["inputs"]["labels_sha256"],
        made_by["inputs"]["streams"]["visual"]["records_sha256"],
        made_by["git_commit"] or "None",
        made_by["device"],
        f"torch {made_by['versions']['torch']}",
    ):
        assert fact in said


def test_a_moved_manifest_is_in_the_commands(planted, trained, tmp_path):
    moved = planted.manifest.with_name("a copy.jsonl")
    moved.write_bytes(planted.manifest.read_bytes())
    found = content_for(open_split(trained, moved, None, "val"))
    lines = [line for _, line in found.commands]
    assert lines[1].endswith(f"'manifest={moved}'")
    assert lines[2].endswith(f"--manifest '{moved}'")


@WITHOUT_FIGURES
def test_another_length_tolerance_is_in_the_commands_but_not_in_the_key(trained):
    usual, wider = (open_split(trained, None, None, "val", rows) for rows in (None, 9))
    assert usual.key() == wider.key()
    lines = [line for _, line in content_for(wider).commands]
    assert lines[1].endswith(" max_length_mismatch=9")
    assert lines[2].endswith(" --max-length-mismatch 9")
    assert main([*lines[2].split()[1:], "-o", str(trained.parent / "r.html")]) == 0


def test_inputs_that_lie_where_they_lay_are_not_in_the_commands(planted, trained, monkeypatch):
    monkeypatch.chdir(planted.manifest.parent)
    here, store = Path(planted.manifest.name), Path(planted.store).name
    found = content_for(open_split(trained, here, store, "val"))
    assert [line for _, line in found.commands if "manifest" in line or "store" in line] == []


@WITHOUT_FIGURES
def test_a_run_that_lost_its_epochs_and_provenance_still_has_a_report(run):
    (run / METRICS).unlink()
    (run / PROVENANCE).unlink()
    score_head(run=run)
    text = (run / REPORT).read_text()
    assert "has lost the file with its epochs" in text
    assert "Not recorded." in text


def test_damaged_files_of_a_run_are_named(run):
    (run / METRICS).write_text("{")
    with pytest.raises(InputError, match=r"metrics.jsonl is damaged .*train again"):
        report(run)
    (run / METRICS).unlink()
    (run / PROVENANCE).write_text("{")
    with pytest.raises(InputError, match=r"provenance.json is not JSON .*train again"):
        report(run)


def test_learning_curves_of_one_epoch(content):
    only = EpochResult(0, 1.5, -0.2, 0.1, -0.05)
    values = {"loss": (1.5,), "ccc_valence": (-0.2,), "ccc_arousal": (0.1,), "ccc_mean": (-0.05,)}
    text = page(replace(content, epochs=(only,), epoch_values=values, kept=only), KEY)
    assert "1 epoch; the weights of\nepoch 1 are kept" in text
    assert f"{MINUS}0.050" in text


def test_numbers_have_a_true_minus_and_none_a_dash():
    assert number(-0.12345) == f"{MINUS}0.123"
    assert number(0.5, 1) == "0.5"
    assert number(None) == "\N{EN DASH}"


@WITHOUT_FIGURES
def test_the_command_makes_the_report_again(run, tmp_path, capsys):
    score_head(run=run)
    made = (run / REPORT).read_bytes()
    assert main(["report", str(run), "-o", str(tmp_path / "r.html")]) == 0
    assert "r.html shows the split val" in capsys.readouterr().out
    assert (tmp_path / "r.html").read_bytes() == made
    (run / REPORT).unlink()
    assert main(["report", str(run), "--split", "train"]) == 0
    assert b"<strong>train</strong>" in (run / REPORT).read_bytes()


def test_what_cannot_be_reported_is_exit_2_with_the_reason(run, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "there is no trained head at" in capsys.readouterr().err
    assert main(["report", str(run), "--split", "test"]) == 2
    assert "no frame of the split 'test' is annotated" in capsys.readouterr().err
    assert main(["report", str(run), "-o", str(tmp_path / "none" / "r.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (run / REPORT).exists()
