"""The demo's pipeline on rendered sets of several seeds, and with encoders of random weights.

    python benchmarks/synthetic_seeds.py --folder data/benchmarks

renders a set per seed, extracts, trains and scores, and prints a table: ridge per frame on each
modality and on both, ridge with neighbouring frames, and the head. Then the first seed once
more with both encoders drawn at random. What is done already is not done again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from transformers import ASTConfig, ASTModel

from features.datasets.affwild2 import AffWild2Config
from features.manifest.manifest import write_manifest
from features.synthetic import DEFAULT_CLIPS, DEFAULT_SECONDS, is_rendered, render
from features.synthetic.training.ast import AST_NAME
from features.synthetic.training.clip import CLIP_MODEL, CLIP_NAME
from features.synthetic.training.train import WEIGHTS
from flows.demo.acceptance import ScoreRow, score_rows
from flows.demo.demo import demo_keys
from flows.stages import pipeline
from models.runs.folder import read_config

SEEDS = (1, 2, 3, 4, 5)
MEDIAN_AT_LEAST, EACH_AT_LEAST = 0.50, 0.40  # val mean CCC of the head over the seeds
RANDOM_SEED = 0  # of the random weights


def main() -> None:
    """Run everything, print the table, and fail where the head is too low."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    heads: list[float] = []
    for seed in arguments.seeds:
        folder = arguments.folder / f"seed-{seed}"
        _rendered(folder, seed)
        rows = _scored(folder, "features.zarr", "run")
        if not heads:
            print("| seed | " + " | ".join(row.name for row in rows) + " |")
            print("|---" * (len(rows) + 1) + "|")
        _print(str(seed), rows)
        heads.append(rows[-1].mean)
    folder = arguments.folder / f"seed-{arguments.seeds[0]}"
    random = _random_encoders(arguments.folder / "random-encoders")
    name = f"{arguments.seeds[0]}, random encoders"
    _print(name, _scored(folder, "random.zarr", "random-run", *random))
    print(f"\nhead: median {median(heads):.3f}, lowest {min(heads):.3f}")
    if median(heads) < MEDIAN_AT_LEAST or min(heads) < EACH_AT_LEAST:
        raise SystemExit(f"wanted: median {MEDIAN_AT_LEAST:.2f}, each {EACH_AT_LEAST:.2f}")


def _rendered(folder: Path, seed: int) -> None:
    """The set of a seed, with its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers: Any = {"clips": DEFAULT_CLIPS, "seconds": DEFAULT_SECONDS, "seed": seed}
    if not is_rendered(folder / "dataset", **numbers):
        render(folder / "dataset", **numbers)  # refuses where another set lies
    write_manifest(
        folder / "manifest.jsonl", AffWild2Config(root=folder / "dataset").index(folder).clips
    )


def _scored(folder: Path, store: str, run: str, *overrides: str) -> tuple[ScoreRow, ...]:
    """Ridge and head on the set."""
    result = pipeline(**demo_keys(folder, "manifest.jsonl", store, run, *overrides))
    assert result.score.score is not None  # the val split of a rendered set has labels
    return score_rows(read_config(folder / run), result.score.score)


def _print(name: str, rows: tuple[ScoreRow, ...]) -> None:
    """A line of the table: mean, and valence and arousal by themselves."""
    cells = [f"{row.mean:.3f} ({row.valence:.2f}, {row.arousal:.2f})" for row in rows]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _random_encoders(folder: Path) -> Iterator[str]:
    """Overrides that name both small encoders with weights drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(RANDOM_SEED)
    (folder / f"{CLIP_NAME}.json").write_text(json.dumps(CLIP_MODEL))
    save_file(open_clip.CLIP(**CLIP_MODEL).state_dict(), folder / "clip.safetensors")
    network = ASTModel(ASTConfig.from_pretrained(WEIGHTS / AST_NAME))
    network.save_pretrained(folder / "ast")
    preprocessor = "preprocessor_config.json"
    (folder / "ast" / preprocessor).write_bytes((WEIGHTS / AST_NAME / preprocessor).read_bytes())
    yield f"encoders.0.model={folder / f'{CLIP_NAME}.json'}"
    yield f"encoders.0.pretrained={folder / 'clip.safetensors'}"
    yield f"encoders.1.model={folder / 'ast'}"


if __name__ == "__main__":
    main()
