import gc
from contextlib import suppress

import pytest

from features.system.imports import without_collections


@pytest.fixture(params=[True, False], ids=["on", "off"])
def was_enabled(request):
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_collections_pause_and_go_on_as_before_even_after_an_error(was_enabled):
    with suppress(ImportError), without_collections():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() == was_enabled
