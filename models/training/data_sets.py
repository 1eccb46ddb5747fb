"""The settings of a training that are about several data sets."""

from models.data.data_sets import check_names, clips_by_set
from models.data.splits import ClipGroups, label_maps_of, mapped_labels
from models.training.config import TrainConfig


def on_one_scale(clips: ClipGroups, train: TrainConfig) -> tuple[ClipGroups, TrainConfig]:
    """Return the clips with mapped labels, and the settings with the maps as numbers.

    Raises `InputError` if the settings name a data set that there is not.
    """
    check_names("set_weights", train.set_weights, [*clips_by_set([*clips.labels])])
    if not train.label_maps:
        return clips, train
    maps = label_maps_of(clips, train.label_maps)
    return mapped_labels(clips, maps), train.model_copy(update={"label_maps": maps})
