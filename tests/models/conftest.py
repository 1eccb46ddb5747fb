"""What the tests of stage two share: expensive things that they do not look at are made once."""

import functools
import sys
from collections.abc import Callable, Iterator

import pytest
from markupsafe import Markup


@pytest.fixture(scope="session")
def get_tokenizer_once() -> Callable[..., object]:
    """`open_clip.get_tokenizer`, which takes a fifth of a second to read its vocabulary, cached."""
    return functools.cache(sys.modules["open_clip"].get_tokenizer)


@pytest.fixture(scope="module", autouse=True)
def share_tokenizer(request) -> Iterator[None]:
    """All trainings of a module use one tokenizer; it has no state but a cache."""
    if "open_clip" not in sys.modules:  # no test that was collected trains
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        shared = request.getfixturevalue("get_tokenizer_once")
        patch.setattr("open_clip.get_tokenizer", shared)
        yield


@pytest.fixture
def without_figures(monkeypatch) -> None:
    """Reports are written without their figures, which take most of the time of a scoring.

    `tests/models/report` draws them.
    """
    for module in ("figures", "timeline"):
        monkeypatch.setattr(f"models.report.{module}.svg", lambda *_: Markup("<svg></svg>"))
