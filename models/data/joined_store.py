"""The feature stores of several data sets, read as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

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
    sets: Mapping[str, frozenset[str]]
    """The feature sets of each store; of the others, its clips have no row."""

    @property
    def work(self) -> Path:
        """The work folder of the first store."""
        return next(iter(self.stores.values())).work

    def feature_sets(self) -> dict[str, FeatureSpec]:
        """Return the feature sets that all stores have."""
        first = next(iter(self.stores.values())).feature_sets()
        names = frozenset.intersection(*self.sets.values())
        return {name: spec for name, spec in first.items() if name in names}

    def has(self, set_name: str, clip_id: str) -> bool:
        """Whether the store of a clip has a feature set."""
        return set_name in self.sets[clip_id.partition(SEPARATOR)[0]]

    def commit(self, set_name: str, clip_id: str) -> Commit | None:
        """Return the commit of a clip's record, or None if there is none."""
        name, _, own = clip_id.partition(SEPARATOR)
        return self.stores[name].commit(set_name, own)

    def any_commit(self, set_name: str) -> Commit | None:
        """Return the commit of some record of a feature set, or None if there is none."""
        found = (
            store.commit(set_name, clip_id)
            for name, store in self.stores.items()
            if set_name in self.sets[name]
            for clip_id in store.clip_ids(set_name)
        )
        return next((commit for commit in found if commit), None)

    def read(self, set_name: str, clip_id: str) -> Track:
        """Return the track of a clip; raises as `FeatureStore.read` does.

        If the store of the clip has no such features, the track has no row.
        """
        name, _, own = clip_id.partition(SEPARATOR)
        if set_name in self.sets[name]:
            return self.stores[name].read(set_name, own)
        return Track(
            np.zeros((0, self._widths[set_name]), np.float16), np.zeros(0), np.zeros(0, bool)
        )

    @cached_property
    def _widths(self) -> dict[str, int]:
        """The widths of the feature sets that a store lacks, as another one has them."""
        every = frozenset.union(*self.sets.values())
        widths: dict[str, int] = {}
        for set_name in every - frozenset.intersection(*self.sets.values()):
            name = next(name for name, own in self.sets.items() if set_name in own)
            clip_id = self.stores[name].clip_ids(set_name)[0]
            widths[set_name] = self.stores[name].read(set_name, clip_id).values.shape[1]
        return widths

    def location(self) -> str:
        """Return where the stores are, each once."""
        return ", ".join(dict.fromkeys(each.backend.path() for each in self.stores.values()))


def absolute_stores(store: Stores) -> Stores:
    """Return the stores by paths or URLs that do not depend on the current folder."""
    if isinstance(store, str):
        return absolute_path(store)
    return tuple(absolute_path(each) for each in store)
