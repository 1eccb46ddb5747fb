"""A grid: `train-head` with every combination of several values of its keys."""

from collections.abc import Callable, Sequence
from pathlib import Path

from features.canonical_json import JsonObject
from features.errors import InputError
from features.system.parallel import n_cores, process_pool
from models.data.train_val import load_splits
from models.runs.folder import RunConfig
from models.stages.points import Point, PointComparison, PointRunner, compared
from models.stages.trials import check_trials_folder


class Grid(PointComparison):
    """The result of a grid; all runs are compared with the first combination."""

    stage = "train-head"
    file = "grid"
    reference = "the first"
    is_in_order = False


def train_grid(
    configs: Sequence[tuple[str, JsonObject, RunConfig]],
    run: Path,
    workers: int | None = None,
    on_case: Callable[[str, int], None] | None = None,
) -> Grid:
    """Train the heads of a grid, and compare them on val with the first one.

    Each has its folder inside `run`, the values that it has of its own, and its config, which has
    the data of the others. Trainings run at once and are kept as in `ablate`. Writes the table to
    `grid.csv`, `grid.md` and `grid.html`. Raises as `train_head` does, before anything is trained,
    and `InputError` if the runs have different data.
    """
    keys = configs[0][2]
    for _, _, config in configs:
        for name in ("manifest", "store", "streams", "max_length_mismatch"):
            if getattr(config, name) != getattr(keys, name):
                raise InputError(f"{name} differs between the runs of a grid: give them one value")
    keys = keys.model_copy(update={"run": run})
    check_trials_folder(run, "a grid")
    splits = load_splits(
        keys.manifest, keys.store, keys.streams, keys.max_length_mismatch, keys.train.label_maps
    )
    points = [
        Point(name, name, dict(values), (config.head, config.train))
        for name, values, config in configs
    ]
    n_at_once = min(workers or n_cores(), len(points))
    with process_pool(n_at_once) as pool:
        PointRunner(keys, 1, False, n_at_once, pool, len(points), on_case).run(points)
    return compared(Grid, "Grid", run, points, splits)
