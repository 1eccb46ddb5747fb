"""The artifacts of a flow run: outcomes, a chart of the stages, a link to the report.

An artifact only describes a result: if it cannot be published, the run logs that and goes on.
"""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from prefect.artifacts import MarkdownArtifact, TableArtifact
from prefect.context import FlowRunContext

from features.errors import InputError
from features.extraction.outcome import ExtractionResult
from features.maintenance.status import Status, status
from features.manifest.manifest import read_manifest
from features.printable import printable
from features.store.feature_store import FeatureStore
from flows.logs import run_logger
from flows.server.markdown import Coverage, outcome_rows, picture_page, report_page, set_coverage
from models.data.data_sets import Manifests, Stores
from models.runs.ensemble_record import EnsembleConfig
from models.runs.folder import REPORT, RunConfig, holds_ensemble, read_config, read_metrics
from models.stages.score_head import ScoreResult
from models.training.config import kept_epoch

OUTCOMES, PICTURE, REPORT_LINK = "outcomes", "pipeline", "report"  # keys: [a-z0-9-]
REPORTS_URL = "VAFLOW_REPORTS_URL"
"""The environment variable with the URL at which the working folder of the flows is served."""


@contextmanager
def _publishing(key: str) -> Iterator[None]:
    """Context manager that logs why an artifact was not published, and goes on."""
    try:
        yield
    except Exception as error:  # a missing artifact is no reason to lose a run
        message = "the artifact %r was not published (%s: %s); nothing else is lost"
        run_logger().warning(message, key, type(error).__name__, error)


def publish_extraction(extraction: ExtractionResult, store: str, manifest: Path) -> None:
    """Publish the outcome of each clip and the coverage of the feature sets. Never raises."""
    if FlowRunContext.get() is None:
        return
    with _publishing(OUTCOMES):
        text = "\n\n".join((extraction.summary(), *extraction.remarks))
        rows = outcome_rows(extraction.outcomes)
        TableArtifact(key=OUTCOMES, table=rows, description=printable(text)).create()
    with _publishing(PICTURE):
        names = dict.fromkeys(outcome.feature_set for outcome in extraction.outcomes)
        _publish_picture(manifest, store, names)


def publish_training(
    run: Path,
    manifest: Manifests | None = None,
    store: Stores | None = None,
    *,
    split: str | None = None,
    ccc_mean: float | None = None,
) -> None:
    """Publish the chart of the stages for a run, whose data is by default that of its training.

    `split` is the one that was scored, if one was; without labels it has no `ccc_mean`. Never
    raises.
    """
    if FlowRunContext.get() is None:
        return
    with _publishing(PICTURE):
        if holds_ensemble(run):
            config, training = read_config(run, EnsembleConfig), "an ensemble"
        else:
            config = read_config(run, RunConfig)
            kept = kept_epoch(read_metrics(run), config.train)
            training = f"val mean CCC {kept.ccc_mean:.3f}"
        score = "predictions only" if ccc_mean is None else f"mean CCC {ccc_mean:.3f}"
        names = [name for name in (config.streams or {}).values() if name]
        manifest, store = manifest or config.manifest, store or config.store
        if not isinstance(manifest, Path) or not isinstance(store, str):
            return  # the chart is of one data set
        _publish_picture(
            manifest,
            store,
            names,
            training,
            split and f"{split}: {score}",
            None if ccc_mean is None else run / REPORT,
        )


def publish_score(
    result: ScoreResult, manifest: Manifests | None = None, store: Stores | None = None
) -> None:
    """Publish the chart of the stages after a split is scored, and a link to its report.

    Manifest and store default to those of the training. Of several data sets there is no chart.
    Never raises.
    """
    mean = result.score.ccc_mean if result.score else None
    publish_training(result.run, manifest, store, split=result.split, ccc_mean=mean)
    if result.score and FlowRunContext.get():
        with _publishing(REPORT_LINK):
            path = (result.run / REPORT).resolve()
            page = report_page(result, path, platform.node(), served_at(path))
            MarkdownArtifact(key=REPORT_LINK, markdown=printable(page)).create()


def _publish_picture(
    manifest: Path,
    store: str,
    names: Iterable[str],
    training: str | None = None,
    score: str | None = None,
    report: Path | None = None,
) -> None:
    n_clips = len(read_manifest(manifest).clips)
    found = Status(())  # if every clip has failed, there is no store
    if FeatureStore.open_or_plan(store).backend.metadata("") is not None:
        found = status(store, manifest)
    coverage = Coverage(n_clips, set_coverage(found, names, n_clips), training, score, report)
    page = picture_page(coverage, manifest, store)
    MarkdownArtifact(key=PICTURE, markdown=printable(page)).create()


def served_at(path: Path) -> str | None:
    """The URL of a file in the working folder, if it is served; `InputError` for a bad base URL."""
    base = os.environ.get(REPORTS_URL, "").strip()
    if not base or not path.is_relative_to(Path.cwd()):
        return None
    if not base.startswith(("http://", "https://")):
        raise InputError(
            f"{REPORTS_URL} is {base!r}; give the http:// or https:// address at which the folder "
            f"{Path.cwd()} is served, or unset it"
        )
    return f"{base.rstrip('/')}/{quote(path.relative_to(Path.cwd()).as_posix())}"
