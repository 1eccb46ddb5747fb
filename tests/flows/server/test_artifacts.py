"""The artifacts that flows publish on a real server; a run goes on if the server refuses one."""

import json
import logging
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import prefect.server
import pytest
from prefect import flow
from prefect.artifacts import Artifact, TableArtifact
from prefect.client.orchestration import get_client

from features.errors import InputError
from features.extraction.outcome import ExtractionResult, Outcome
from flows.server import artifacts
from flows.server.artifacts import (
    publish_extraction,
    publish_score,
    publish_training,
)
from flows.server.markdown import Coverage, SetCoverage, mermaid
from models.heads.dspl import DsplConfig
from models.metrics.scores import SplitScore
from models.runs.folder import RunConfig, write_config, write_metrics
from models.stages.score_head import ScoreResult
from models.training.config import EpochResult, TrainConfig
from tests.helpers.browser import chromium
from tests.helpers.small_stores import SPEC, send_away, write_clips

pytestmark = pytest.mark.slow

SCORE = SplitScore(0.7, 0.6, 0.65, 1000, 4, 3, 2, *[None] * 6)
EXTRACTION = ExtractionResult(
    (Outcome("a", SPEC.name, "present"), Outcome("c", SPEC.name, "quarantined", "no moov")), 2.0
)


@pytest.fixture
def folder(tmp_path):
    """Clips a and b with features, c in quarantine, and a run that was trained on them."""
    write_clips(tmp_path)
    send_away(tmp_path, "c")
    (tmp_path / "run").mkdir()
    write_config(
        RunConfig(
            manifest=tmp_path / "m.jsonl",
            store=str(tmp_path / "s.zarr"),
            run=tmp_path / "run",
            head=DsplConfig(),
            train=TrainConfig(select="val"),
            streams={"visual": SPEC.name, "audio": "ast-0123456789ab"},
        )
    )
    write_metrics(
        tmp_path / "run", [EpochResult(0, 1.0, 0.5, 0.3, 0.4), EpochResult(1, 0.9, 0.4, 0.2, 0.3)]
    )
    return tmp_path


def published(name: str) -> dict[str, str]:
    """The data of the artifacts that the runs of a flow have, by key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts()
        runs = {run.id for run in client.read_flow_runs() if run.name == name}
    return {each.key: each.data for each in found if each.flow_run_id in runs}


def test_an_extraction_publishes_its_outcomes_and_the_coverage_of_the_whole_manifest(
    server, folder
):
    @flow(flow_run_name="extracting")
    def extracting() -> None:
        publish_extraction(EXTRACTION, str(folder / "s.zarr"), folder / "m.jsonl")

    extracting()
    found = published("extracting")
    assert set(found) == {"outcomes", "pipeline"}
    assert [row["clip"] for row in json.loads(found["outcomes"])] == ["c", "a"]
    # of three clips, though this run was of two
    assert "2 of 3 clips (66 %)<br/>1 quarantined" in found["pipeline"]
    assert "train-head<br/>not run here" in found["pipeline"]


def test_an_extraction_without_a_store_publishes_the_chart_too(server, folder):
    @flow(flow_run_name="in vain")
    def in_vain() -> None:
        publish_extraction(EXTRACTION, str(folder / "none.zarr"), folder / "m.jsonl")

    in_vain()
    assert "0 of 3 clips (0 %)<br/>3 missing" in published("in vain")["pipeline"]
    assert not (folder / "none.zarr").exists()


def test_training_and_scoring_publish_the_chart_with_their_scores(server, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv(artifacts.REPORTS_URL, "http://box:8000/")

    @flow(flow_run_name="training")
    def training() -> None:
        publish_training(folder / "run")

    @flow(flow_run_name="scoring")
    def scoring() -> None:
        publish_score(ScoreResult("scored", folder / "run", "val", SCORE, ()))

    training()
    scoring()
    trained, scored = published("training"), published("scoring")
    assert set(trained) == {"pipeline"}
    assert 'train-head<br/>val mean CCC 0.400"' in trained["pipeline"]  # of the best epoch
    assert "score-head<br/>not run here" in trained["pipeline"]
    assert "ast-0123456789ab<br/>0 of 3 clips" in trained["pipeline"]
    assert 'score-head<br/>val: mean CCC 0.650"]:::done' in scored["pipeline"]
    assert 'report<br/>report.html"]:::done' in scored["pipeline"]
    assert "(<http://box:8000/run/report.html>)" in scored["report"]


def test_a_split_without_labels_has_no_report(server, folder):
    @flow(flow_run_name="predicting")
    def predicting() -> None:
        publish_score(ScoreResult("scored", folder / "run", "test", None, ()))

    predicting()
    found = published("predicting")
    assert set(found) == {"pipeline"}
    assert "score-head<br/>test: predictions only" in found["pipeline"]
    assert "report<br/>not run here" in found["pipeline"]


def test_the_chart_names_an_ensemble(server, folder):
    (folder / "run" / "ensemble.json").write_text("{}")
    config = (folder / "run" / "config.yaml").read_text()
    (folder / "run" / "config.yaml").write_text(config + "folds: 5\nover: train+val\n")

    @flow(flow_run_name="of several")
    def of_several() -> None:
        publish_training(folder / "run", split="val", ccc_mean=0.6)

    of_several()
    assert "train-head<br/>an ensemble" in published("of several")["pipeline"]


def test_a_refused_artifact_costs_the_run_only_a_warning(server, folder, monkeypatch, caplog):
    def refuse(self: Artifact) -> None:
        raise ConnectionError("503 Service Unavailable")

    monkeypatch.setattr(TableArtifact, "create", refuse)

    @flow(flow_run_name="refused")
    def refused() -> str:
        publish_extraction(EXTRACTION, str(folder / "s.zarr"), folder / "m.jsonl")
        return "went on"

    assert refused() == "went on"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        "the artifact 'outcomes' was not published (ConnectionError: 503 Service Unavailable); "
        "nothing else is lost"
    ]
    assert set(published("refused")) == {"pipeline"}  # the others are tried


def test_a_run_folder_that_cannot_be_read_costs_the_run_only_a_warning(server, folder, caplog):
    @flow(flow_run_name="gone")
    def gone() -> None:
        publish_training(folder / "none")

    gone()
    assert "'pipeline' was not published (InputError: " in caplog.text


def test_nothing_is_published_outside_a_flow(folder, monkeypatch):
    monkeypatch.setattr(TableArtifact, "create", lambda self: pytest.fail("published"))
    publish_extraction(EXTRACTION, str(folder / "s.zarr"), folder / "m.jsonl")


def test_only_a_report_in_the_served_folder_has_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a run" / "report.html"
    monkeypatch.delenv(artifacts.REPORTS_URL, raising=False)
    assert artifacts.served_at(path) is None
    monkeypatch.setenv(artifacts.REPORTS_URL, "https://box/x")
    assert artifacts.served_at(path) == "https://box/x/a%20run/report.html"
    assert artifacts.served_at(tmp_path.parent / "report.html") is None
    monkeypatch.setenv(artifacts.REPORTS_URL, "box:8000")
    with pytest.raises(InputError, match=r"VAFLOW_REPORTS_URL is 'box:8000'; give the http:// or"):
        artifacts.served_at(path)


@pytest.mark.browser
def test_prefects_own_mermaid_renders_the_chart(tmp_path):
    assets = Path(prefect.server.__file__).parent / "ui-v2" / "assets"
    module = next(assets.glob("vendor-mermaid-*.js")).name
    (tmp_path / "assets").symlink_to(assets)
    (tmp_path / "page.html").write_text("<body></body>")
    text = mermaid(Coverage(3, (SetCoverage(SPEC.name, 3, 2), SetCoverage("x", 3, 3)), score='"a#'))
    draw = """
        const [module, text, done] = arguments;
        import('/assets/' + module).then(async found => {
            const mermaid = Object.values(found).find(e => e?.default?.render)?.default;
            mermaid.initialize({startOnLoad: false, securityLevel: 'strict'});
            document.body.innerHTML = (await mermaid.render('picture', text)).svg;
            done([...document.querySelectorAll('.node')].map(e => e.textContent));
        }).catch(error => done(String(error)));"""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages,
        chromium(tmp_path / "c") as window,
    ):
        Thread(target=pages.serve_forever, daemon=True).start()
        window.get(f"http://127.0.0.1:{pages.server_port}/page.html")
        nodes = window.execute_async_script(draw, module, text)
        pages.shutdown()
    assert nodes == [
        "index3 clips",
        f"extract-features{SPEC.name}2 of 3 clips (66 %)",
        "extract-featuresx3 of 3 clips (100 %)",
        "train-headnot run here",
        'score-head"a#',
        "reportnot run here",
    ]
