"""The feature stores of several data sets, read as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features.clip import Track
from features.spec import FeatureSpec
from features.store.commit import Commit
from features.store.feature_store import FeatureStore
from features.store.location import absolute_path
from models.data.data_sets import SEPARATOR, Stores


@dataclass(frozen=True)
class JoinedStore:
    """The stores of several data sets; a clip is called `SET/NAME`."""

    stores: Mapping[str, FeatureStore]
    """By the name of the set; the first one keeps the packed features of all."""

    @property
    def work(self) -> Path:
        """The work folder of the first store."""
        return next(iter(self.stores.values())).work

    def feature_sets(self) -> dict[str, FeatureSpec]:
        """Return the feature sets that all stores have."""
        first, *others = (store.feature_sets() for store in self.stores.values())
        return {name: spec for name, spec in first.items() if all(name in o for o in others)}

    def commit(self, set_name: str, clip_id: str) -> Commit | None:
        """Return the commit of a clip's record, or None if there is none."""
        name, _, own = clip_id.partition(SEPARATOR)
        return self.stores[name].commit(set_name, own)

    def read(self, set_name: str, clip_id: str) -> Track:
        """Return the track of a clip; raises as `FeatureStore.read` does."""
        name, _, own = clip_id.partition(SEPARATOR)
        return self.stores[name].read(set_name, own)

    def location(self) -> str:
        """Return where the stores are, each once."""
        return ", ".join(dict.fromkeys(each.backend.path() for each in self.stores.values()))


def absolute_stores(store: Stores) -> Stores:
    """Return the stores by paths or URLs that do not depend on the current folder."""
    if isinstance(store, str):
        return absolute_path(store)
    return tuple(absolute_path(each) for each in store)
