import csv
import io
import json
import re
from dataclasses import fields

import numpy as np
import pytest
import yaml

from features.errors import Incomplete, InputError
from flows.command.main import main
from flows.messages import describe
from flows.stages import raise_if_incomplete
from models.ablation.plan import (
    DEFAULT,
    FOLDER,
    Plan,
    ablation_cases,
    read_plan,
    selection_note,
)
from models.ablation.table import Predictions, TableRow, ablation_markdown, as_csv, table_rows
from models.baselines.ridge import RidgeConfig
from models.data.train_val import load_splits
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.metrics.ccc import Concordance
from models.metrics.intervals import RESAMPLES
from models.regions.prompts import FixedPrompts
from models.runs.folder import HEAD_FILE, VAL_PREDICTIONS, RunConfig
from models.stages import trials
from models.stages.ablate import ablate
from models.stages.trials import Trial, run_trial
from models.training.config import TrainConfig, preset_train

pytestmark = pytest.mark.slow

HEAD = DsplConfig(width=8, n_heads=2, prompts=FixedPrompts())
TRAIN = TrainConfig(epochs=1, window=40, stride=40, batch_size=4, learning_rate=1e-2, threads=1)
PLAN = """
groups:
  - name: modality
    variants:
      both: {head: {fusion: attention_gate}}
      visual: {head: {fusion: visual}}
  - name: baseline
    variants:
      ridge: {baseline: {kind: ridge}}
"""

STREAMS = (("visual", "audio"), ("visual",))  # all, and those of an encoder with a text tower


CSV, MARKDOWN, PAGE = (f"ablation.{ending}" for ending in ("csv", "md", "html"))


def run(planted, plan, folder, **changes):
    keys = {"variants": str(plan), "seeds": 2, "head": HEAD, "train": TRAIN, "workers": 1} | changes
    return ablate(manifest=planted.manifest, store=planted.store, run=folder, **keys)


@pytest.fixture
def in_turn(monkeypatch):
    """Trainings one after the other in this process: `done` shows them in processes."""

    def mapped(function, items, n_processes, pool):
        return map(function, items)

    monkeypatch.setattr(trials, "map_in_processes", mapped)


@pytest.fixture(scope="module")
def done(planted, plan, tmp_path_factory):
    return run(planted, plan, tmp_path_factory.mktemp("runs") / "a", workers=2)


def test_every_variant_is_trained_from_every_seed(done):
    assert (done.n_trained, done.n_present, done.failed) == (4, 0, ())
    assert [(line.group, line.row, line.n_seeds) for line in done.rows] == [
        (DEFAULT, DEFAULT, 2),
        ("modality", "visual", 2),
        ("baseline", "ridge", 1),
    ]
    runs = sorted(str(path.parent.relative_to(done.run)) for path in done.run.rglob(HEAD_FILE))
    assert runs == [
        f"{row}/seed-{seed}" for row in ("default-default", "modality-visual") for seed in (0, 1)
    ]
    config = yaml.safe_load((done.run / "modality-visual/seed-1/config.yaml").read_text())
    assert (config["head"]["fusion"], config["train"]["seed"]) == ("visual", 1)


def test_a_second_run_trains_nothing_and_makes_the_same_table(done, planted, plan, in_turn):
    before = {name: (done.run / name).read_bytes() for name in (CSV, MARKDOWN, PAGE)}
    again = run(planted, plan, done.run)
    assert (again.n_trained, again.n_present) == (0, 4)
    assert {name: (done.run / name).read_bytes() for name in before} == before


def test_what_is_lost_or_damaged_is_made_again_and_no_more(done, planted, plan, in_turn):
    before = (done.run / CSV).read_bytes()
    (done.run / "default-default/seed-1" / HEAD_FILE).unlink()
    (done.run / "default-default/seed-0" / VAL_PREDICTIONS).write_bytes(b"PK no archive")
    (done.run / "modality-visual/seed-1" / VAL_PREDICTIONS).unlink()
    again = run(planted, plan, done.run)
    assert (again.n_trained, again.n_present) == (1, 3)
    assert (done.run / CSV).read_bytes() == before


def test_predictions_of_other_labels_are_not_taken(planted, tmp_path):
    config = RunConfig(
        manifest=planted.manifest,
        store=planted.store,
        run=tmp_path / "run",
        head=HEAD,
        train=TRAIN,
    )
    member = Trial(None, "one", config)
    found = run_trial(member)
    path = tmp_path / "run" / VAL_PREDICTIONS
    with np.load(path) as file:
        np.savez(path, va=file["va"] + 1, key=np.array("of others"))
    np.testing.assert_array_equal(run_trial(member).va, found.va)


def test_a_training_that_fails_is_listed_and_the_others_go_on(planted, plan, in_turn, tmp_path):
    blocked = tmp_path / "a" / "modality-visual" / "seed-0"
    blocked.mkdir(parents=True)
    (blocked / "letter.txt").write_text("not a run's")
    found = run(planted, plan, tmp_path / "a")
    assert found.n_trained == 3
    assert [line.n_seeds for line in found.rows] == [2, 1, 1]
    (failure,) = found.failed
    assert failure.startswith("modality-visual/seed-0: run = ")
    assert "holds files that do not belong to a run" in failure
    with pytest.raises(Incomplete, match="1 trainings of the ablation failed"):
        raise_if_incomplete(found)
    assert list(describe(found))


def test_a_row_of_which_nothing_was_trained_has_dashes(planted, tmp_path):
    splits = load_splits(planted.manifest, planted.store)
    va = splits.val.va.numpy()
    rows = [Predictions("d", "d", {0: va}), Predictions("g", "r", {})]
    lines = table_rows(rows, splits)
    assert lines[1].n_seeds == 0
    assert set(as_csv(lines).splitlines()[2].split(",")[3:]) == {""}
    assert "| r | 0 | – | – |" in ablation_markdown(lines)  # noqa: RUF001


def test_the_table_by_hand(planted):
    splits = load_splits(planted.manifest, planted.store)
    val, truth = splits.val, splits.val.va.numpy()
    known = val.va_valid.numpy()
    rng = np.random.default_rng(0)
    noisy = [np.clip(truth + 0.3 * rng.standard_normal(truth.shape), -1, 1) for _ in range(3)]
    worse = [0.5 * va for va in noisy]
    rows = [
        Predictions(DEFAULT, DEFAULT, dict(enumerate(noisy))),
        Predictions("g", "half", dict(enumerate(worse))),
    ]
    default, half = table_rows(rows, splits)

    def ccc(va):
        return np.mean([Concordance.of(truth[known, k], va[known, k]).ccc() for k in range(2)])

    assert default.ccc_mean == pytest.approx(np.mean([ccc(va) for va in noisy]))
    assert default.averaged == pytest.approx(ccc(np.mean(noisy, axis=0)))
    assert default.averaged > default.ccc_mean  # noise averages out
    assert (default.difference, default.difference_low, default.difference_high) == (0, 0, 0)
    assert (default.p, default.p_holm) == (None, None)
    assert not default.differs
    expected = ccc(np.mean(worse, axis=0)) - default.averaged
    assert half.difference == pytest.approx(expected)
    assert half.difference_low <= half.difference <= half.difference_high < 0
    assert half.differs
    assert half.p == half.p_holm == pytest.approx(2 / (RESAMPLES + 1))
    assert half.difference_bca_low < half.difference < half.difference_bca_high
    assert half.averaged_bca_low < half.averaged < half.averaged_bca_high
    # Student's t of three seeds: 4.303 deviations of the mean to either side
    scores = [ccc(va) for va in noisy]
    reach = 4.3027 * np.std(scores, ddof=1) / np.sqrt(3)
    assert default.ccc_mean_high - default.ccc_mean == pytest.approx(reach, rel=1e-3)


def test_more_rows_make_a_difference_less_sure(planted):
    splits = load_splits(planted.manifest, planted.store)
    truth = splits.val.va.numpy()
    rng = np.random.default_rng(0)

    def noisy(deviation):
        return truth + deviation * rng.standard_normal(truth.shape)

    default = Predictions(DEFAULT, DEFAULT, {0: noisy(0.3)})
    rows = [Predictions("g", f"r{k}", {0: noisy(0.3)}) for k in range(60)]
    bad = Predictions("g", "bad", {0: noisy(0.6)})
    alone = table_rows([default, bad], splits)
    among = table_rows([default, *rows, bad], splits)
    assert alone[1].p == among[-1].p == pytest.approx(2 / (RESAMPLES + 1))
    assert alone[1].differs
    assert among[-1].p_holm == pytest.approx(61 * among[-1].p)  # 2000 resamples say no more
    assert not among[-1].differs
    assert among[-1].difference_high < 0  # although its own interval leaves zero out
    text = ablation_markdown([among[0], among[-1]])
    assert "**" not in text
    assert f"**{alone[1].difference:+.3f}**" in ablation_markdown(alone)


def test_the_table_says_whose_epochs_are_chosen_on_val():
    variants = {"a": {"head": {"kind": "released"}}}
    plan = Plan.model_validate({"groups": [{"name": "g", "variants": variants}]})
    last = selection_note(ablation_cases(plan, HEAD, TrainConfig()))
    assert last.endswith("and no other row has: a, own trainer.")
    assert "default, a, own" in selection_note(ablation_cases(plan, HEAD, TrainConfig(patience=3)))
    assert selection_note([]) == "No epoch is chosen on this split."


def test_the_files_say_the_same_as_the_table(done):
    rows = list(csv.DictReader(io.StringIO((done.run / CSV).read_text())))
    assert tuple(rows[0]) == tuple(field.name for field in fields(TableRow))
    for row, line in zip(rows, done.rows, strict=True):
        assert row["row"] == line.row
        assert float(row["averaged"]) == line.averaged
        assert float(row["difference_low"]) == line.difference_low
    written = (done.run / MARKDOWN).read_text()
    page = (done.run / PAGE).read_text()
    for line in done.rows:
        assert f"{line.ccc_mean:.3f}" in written
        assert re.search(rf"<td>(<strong>)?{re.escape(f'{line.difference:+.3f}')}", page)
        bold = f"<strong>{line.difference:+.3f}</strong>" in page
        assert bold == line.differs == (f"**{line.difference:+.3f}**" in written)
        assert line.row in page
    for text in (written, page):
        assert "corrected by Holm" in text
        assert "No epoch is chosen on this split." in text
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_default_plan_has_the_variants_of_the_paper():
    cases = ablation_cases(read_plan("default"), DsplConfig(), TrainConfig())
    names = {(case.group, case.name) for case in cases}
    assert {
        ("region loss", "no region loss"),
        ("region loss", "hard labels"),
        ("prompts", "fixed"),
        ("prompts", "coop_csc"),
        ("modality", "visual"),
        ("modality", "audio"),
        ("fusion", "concatenation"),
        ("fusion", "attention"),
        ("fusion", "gate"),
        ("fusion", "attention then gate, partner visual"),
        ("temporal", "tcn"),
        ("temporal", "transformer"),
        ("sigma", "0.2"),
        ("sigma", "0.3"),
        ("sigma", "0.66"),
        ("preset", "released, own trainer"),
        ("words in the region loss", "permuted"),
        ("words in the region loss", "random"),
        ("baseline", "text alone"),
        ("baseline", "text alone, permuted"),
        ("baseline", "text alone, random"),
    } <= names
    left_out = {("region loss", "soft labels"), ("prompts", "coop"), ("temporal", "gru")}
    assert not names & left_out  # they are the default
    assert len({case.folder for case in cases}) == len(cases)


def test_another_preset_is_trained_by_its_own_trainer():
    given = TrainConfig(
        epochs=3, learning_rate=0.01, mixup=0.4, window=40, stride=40, seed=5, threads=1
    )
    variants = {
        "a": {"head": {"kind": "released"}},
        "b": {"head": {"kind": "released", "width": 8}},
    }
    variants["b"]["train"] = {"select": "last"}
    plan = Plan.model_validate({"groups": [{"name": "g", "variants": variants}]})

    default, a, b = ablation_cases(plan, HEAD, given)

    assert (a.name, a.folder) == ("a, own trainer", "g-a-own-trainer")
    own = preset_train(ReleasedConfig(), TrainConfig(seed=5, threads=1))
    assert a.model == (ReleasedConfig().for_streams(*STREAMS), own)
    assert b.model[1].select == "last"
    assert b.model[1].learning_rate == own.learning_rate
    assert default.model == (HEAD.for_streams(*STREAMS), given)
    # the other way round, `dspl` has no trainer of its own: it gets the keys that are given
    variants = {"c": {"head": {"kind": "dspl"}}, "d": {"head": {"width": 8}}}
    plan = Plan.model_validate({"groups": [{"name": "g", "variants": variants}]})
    default, c, d = ablation_cases(plan, ReleasedConfig(), given)
    assert default.model[1] == d.model[1] == preset_train(ReleasedConfig(), given)
    assert (c.name, d.name) == ("c", "d")
    assert c.model == (DsplConfig().for_streams(*STREAMS), given)


def test_variants_change_the_given_head_and_keep_the_rest():
    head = DsplConfig(
        width=96, bottleneck=8, prompts={"kind": "coop", "n_context": 4, "texts": "mine"}
    )
    plan = Plan.model_validate(
        {
            "groups": [
                {
                    "name": "g",
                    "variants": {
                        "std": {"head": {"prompts": {"init_std": 0.1}}},
                        "csc": {"head": {"prompts": {"kind": "coop_csc"}}},
                        "fixed": {"head": {"prompts": {"kind": "fixed"}}},
                        "slow": {"train": {"learning_rate": 1e-5}},
                        "same": {"head": {"width": 96}},
                        "ridge": {"baseline": {"kind": "ridge", "streams": ["audio"]}},
                    },
                }
            ]
        }
    )
    cases = {case.name: case.model for case in ablation_cases(plan, head, TRAIN)}
    assert list(cases) == [DEFAULT, "std", "csc", "fixed", "slow", "ridge"]
    changed = cases["std"][0]
    assert (changed.width, changed.bottleneck) == (96, 8)
    assert (changed.prompts.n_context, changed.prompts.init_std) == (4, 0.1)
    # another kind has what it knows of the given one: a row changes one thing
    assert (cases["csc"][0].prompts.n_context, cases["csc"][0].prompts.texts) == (4, "mine")
    assert cases["fixed"][0].prompts == FixedPrompts(texts="mine")
    assert cases["slow"] == (
        head.for_streams(*STREAMS),
        TRAIN.model_copy(update={"learning_rate": 1e-5}),
    )
    assert cases["ridge"] == RidgeConfig(streams=("audio",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [", "is not YAML"),
        ("just words", "it holds no groups"),
        ("groups: []", "groups"),
        (
            PLAN.replace("fusion: visual", "fusoin: visual"),
            "'visual': unknown key 'head.fusoin'.*'fusion'",
        ),
        (
            PLAN.replace("fusion: visual", "fusion: audio"),
            "variant 'visual'.*set train.loss.region_weight to 0",
        ),
        (PLAN.replace("kind: ridge", "kind: rigde"), "rigde"),
        (
            PLAN.replace("      visual:", "      Both!: {head: {dropout: 0}}\n      both?:"),
            "have the folder",
        ),
        (PLAN.replace("{fusion: visual}", "{fusion: visual}, train: {seed: 3}"), "leave seed out"),
        (PLAN.replace("ridge: {b", "ridge: {head: {dropout: 0}, b"), "reads no keys of head"),
        (PLAN.replace("modality", "''").replace("visual:", "'..':"), "variant '..' .* no letter"),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused(tmp_path, planted, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        run(planted, path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plan_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(InputError, match="there is no ablation 'defualt'.* give one of default"):
        read_plan("defualt")
    assert all(read_plan(path.stem) for path in FOLDER.glob("*.yaml"))


def test_the_folder_of_a_head_is_not_taken(planted, plan, done, tmp_path):
    with pytest.raises(InputError, match="is the folder of a trained head"):
        run(planted, plan, done.run / "default-default" / "seed-0")


def test_the_command_prints_the_table(planted, plan, done, in_turn, capsys):
    overrides = {
        "manifest": planted.manifest,
        "store": planted.store,
        "run": done.run,
        "variants": plan,
        "seeds": 2,
        "head": json.dumps(HEAD.model_dump(mode="json")),
        "train": json.dumps(TRAIN.model_dump(mode="json")),
        "workers": 1,
    }
    assert main(["run", "ablate", *(f"{key}={value}" for key, value in overrides.items())]) == 0
    said = capsys.readouterr().out
    assert "ablate: 3 rows; 0 heads trained, 4 already there" in said
    assert "visual" in said


def test_a_plan_with_the_old_key_rows_means_the_same():
    variants = {"a": {"head": {"dropout": 0.5}}}
    old, new = (
        Plan.model_validate({"groups": [{"name": "g", key: variants}]})
        for key in ("rows", "variants")
    )
    assert old == new


def test_a_variant_of_two_groups_stands_in_both():
    variants = {"a": {"head": {"dropout": 0.5}}, "b": {"head": {"dropout": 0.5}}}
    plan = Plan.model_validate(
        {"groups": [{"name": name, "variants": variants} for name in ("g", "h")]}
    )
    found = [(case.group, case.name) for case in ablation_cases(plan, HEAD, TRAIN)]
    assert found == [(DEFAULT, DEFAULT), ("g", "a"), ("h", "a")]
