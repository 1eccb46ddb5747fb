"""What the tests of stage two share: expensive things that they do not look at are made once."""

import pytest
from markupsafe import Markup


@pytest.fixture
def without_figures(monkeypatch) -> None:
    """Reports are written without their figures, which take most of the time of a scoring.

    `tests/models/report` draws them.
    """
    for module in ("figures", "timeline", "charts", "error_charts"):
        monkeypatch.setattr(f"models.report.{module}.svg", lambda *_: Markup("<svg></svg>"))
