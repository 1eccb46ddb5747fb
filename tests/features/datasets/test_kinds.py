"""Every data set that is listed."""

from pathlib import Path

import pytest

from features.datasets import KINDS, dataset
from features.datasets.base import DatasetConfig
from features.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", KINDS)
class TestEveryDataSet:
    def test_its_config_has_the_kind_under_which_it_is_listed(self, kind):
        config = dataset(kind, Path("nowhere"))
        assert isinstance(config, DatasetConfig)
        assert config.model_dump()["kind"] == kind
        assert config.allow_outside == ()

    def test_a_folder_that_is_missing_or_empty_is_refused(self, kind, tmp_path):
        for root in (tmp_path / "gone", tmp_path):
            with pytest.raises(InputError, match=str(root)):
                dataset(kind, root).index(tmp_path)

    def test_the_docs_have_it_in_their_table(self, kind):
        assert f"| `{kind}` | " in (ROOT / "docs" / "datasets.md").read_text()

    def test_its_keys_stand_in_a_file_of_configs(self, kind):
        # that of affwild2 would have one, which is an option of the command, too
        file = ROOT / "configs" / "datasets" / f"{kind}.yaml"
        assert file.is_file() == (kind != "affwild2")


def test_an_unknown_data_set_or_key_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"no data set 'veatik'; there are .*nearest is 'veatic'"):
        dataset("veatik", Path("x"))
    with pytest.raises(InputError, match="data set 'veatic': unknown key 'sead'.* 'seed'"):
        dataset("veatic", Path("x"), sead=1)
