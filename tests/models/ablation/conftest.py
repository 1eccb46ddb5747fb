"""The data set and the plan of the comparisons."""

from pathlib import Path

import pytest

from tests.helpers.synthetic import Planted, plant


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), ("train",) * 3 + ("val",) * 3)


@pytest.fixture(scope="module")
def plan(request, tmp_path_factory) -> Path:
    """The file of the module's `PLAN`."""
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(request.module.PLAN)
    return path
