from pathlib import Path

import pytest
import yaml

from models.heads.dspl import DsplConfig
from models.runs.folder import (
    CLIPS,
    CONFIG,
    ENSEMBLE,
    HEAD_FILE,
    OUTPUT_FILES,
    PREDICTIONS,
    REPORT,
    SCORES,
    Inputs,
    RunConfig,
    SetUsed,
    delete_outputs,
    read_config,
    run_key,
)
from models.training.config import TrainConfig

USED = SetUsed(name="s", digest="d", records_sha256="r")
INPUTS = Inputs(
    streams={"visual": USED, "audio": USED},
    clips={"train": ["a"]},
    labels_sha256="l",
    texts_sha256="t",
)


def config_with(**changes) -> RunConfig:
    fields = {
        "manifest": "m",
        "store": "s",
        "run": "r",
        "head": DsplConfig(),
        "train": TrainConfig(),
    }
    return RunConfig.model_validate(fields | changes)


@pytest.mark.parametrize("n_deleted", range(len(OUTPUT_FILES)))
def test_no_output_outlives_the_file_that_commits_it(tmp_path, monkeypatch, n_deleted):
    for name in OUTPUT_FILES:
        (tmp_path / name).touch()
    deleted, unlink = [], Path.unlink

    def killed_after(path: Path, missing_ok: bool = False) -> None:
        if len(deleted) == n_deleted:
            raise KeyboardInterrupt
        deleted.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", killed_after)
    with pytest.raises(KeyboardInterrupt):
        delete_outputs(tmp_path)

    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == len(OUTPUT_FILES) - n_deleted
    if HEAD_FILE in left:
        assert left >= set(OUTPUT_FILES) - {ENSEMBLE}
    if CLIPS in left:
        assert left >= {SCORES, PREDICTIONS, REPORT}


@pytest.mark.parametrize(
    "same",
    [
        {"manifest": "elsewhere"},
        {"max_length_mismatch": 9},
        {"train": TrainConfig(threads=3, device="cpu")},
    ],
)
def test_what_decides_no_weight_leaves_the_key_as_it_is(same):
    assert run_key(config_with(**same), INPUTS) == run_key(config_with(), INPUTS)


def test_a_memory_limit_is_in_the_key_because_streaming_orders_windows_otherwise():
    limited = config_with(train=TrainConfig(bank_mib=100))

    assert run_key(limited, INPUTS) != run_key(config_with(), INPUTS)


def test_a_config_with_the_old_name_of_the_length_tolerance_is_read(tmp_path):
    fields = config_with(run=tmp_path).model_dump(mode="json")
    fields["max_rows_apart"] = fields.pop("max_length_mismatch") + 2
    (tmp_path / CONFIG).write_text(yaml.safe_dump(fields))

    assert read_config(tmp_path).max_length_mismatch == 5
