"""Train the two small encoders of the demo on rendered faces and voices, and write their card.

`python -m features.synthetic.training.train` writes the weights: a CLIP with a ResNet, trained on
captions (once with words for feelings in them, once without), and an AST, trained on sound tags.
Each part has its own random stream, writes its own `*.measured.json` for the card, and can be
trained alone.
"""

import argparse
import json
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from features.synthetic.training.ast import AST_NAME, train_ast
from features.synthetic.training.clip import CLIP_LOOKS_NAME, CLIP_NAME, train_clip
from features.system.files import sha256_of

log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parents[2] / "encoders" / "weights"
DEFAULT_SEED = 2026
THREADS = 1  # another number sums in another order, which changes the last digits
PARTS: dict[str, Callable[[Path, int, int], tuple[Path, dict[str, float]]]] = {
    CLIP_NAME: train_clip,
    CLIP_LOOKS_NAME: partial(train_clip, feelings=False),
    AST_NAME: train_ast,
}


def train(name: str, folder: Path, seed: int, workers: int) -> None:
    """Train one part, and write its metrics for the card."""
    torch.set_num_threads(THREADS)
    path, measured = PARTS[name](folder, seed, workers)
    note = {
        "seed": seed,
        "threads": THREADS,
        "file": str(path.relative_to(folder)),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "measured": {key: round(value, 3) for key, value in measured.items()},
    }
    (folder / f"{name}.measured.json").write_text(json.dumps(note, indent=2) + "\n")
    log.info("%s: %s", name, note)


def write_card(folder: Path) -> None:
    """Write the card beside the weights, from the metrics of the parts trained so far."""
    lines = [CARD_HEAD]
    for path in (folder / f"{name}.measured.json" for name in PARTS):
        if not path.is_file():
            continue
        note = json.loads(path.read_text())
        name = path.name.removesuffix(".measured.json")
        lines += [
            f"## {name}",
            "",
            f"- `{note['file']}`, {note['bytes'] / 1e6:.1f} MB, float16",
            f"- sha256 `{note['sha256']}`",
            f"- seed {note['seed']}; threads: {note['threads']} (another number gives other last "
            "digits)",
            "",
            "| measured on subjects held out | |",
            "|---|---|",
            *(f"| {key} | {value:.3f} |" for key, value in note["measured"].items()),
            "",
        ]
    (folder / "README.md").write_text("\n".join(lines))


CARD_HEAD = f"""# Small encoders, for trying and testing

Made by `make encoders` (`python -m features.synthetic.training.train`); this card is written by
the same script and its numbers are measured.

They are a CLIP (`{CLIP_NAME}`, open_clip's classes) and an AST (`{AST_NAME}`, transformers'
classes), small enough to lie in the repository and to run on two cores. They have only ever seen
drawn faces with captions and heard synthetic voices with tags, of subjects and curves that no
rendered data set can draw. **They know nothing of real faces or real voices**: for those, use the
encoders that `configs/encoders/` names.

The CLIP is trained with the plain contrastive loss: a caption belongs to its own picture and to no
other. A caption describes what is drawn (mouth, brows, lids, cheeks), and in two of three cases it
has a word for a feeling. The captioner chooses the word by the mouth alone: corners up or down say
whether someone is pleased, and a mouth that is open or wide says that someone is lively; one word
in ten is any word. A tag of a voice is drawn from its pitch, loudness, tempo, brightness, melody
and roughness. No value of valence or arousal is used in the choice of a word or a tag, or in the
loss.
The faces and voices themselves are drawn from such values, so looks that go together in life go
together here, too.

`{CLIP_LOOKS_NAME}` (`pretrained: rendered-looks`) is the same network trained on captions that
describe parts only. It has never read a word for a feeling, and is a control: what a text of a
feeling says to it is chance.
"""


def main() -> None:
    """Train the chosen parts, then write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.folder.mkdir(exist_ok=True)
    for name in arguments.parts:
        train(name, arguments.folder, arguments.seed, arguments.workers)
    write_card(arguments.folder)


if __name__ == "__main__":
    main()
