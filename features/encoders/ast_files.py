"""The files of an AST, found by its name, and the constants of its spectrogram."""

from dataclasses import dataclass
from pathlib import Path

from features.encoders.weights import SHIPPED
from features.errors import WeightsError, one_line
from features.system.weights_file import WeightsFile

FBANK_HOP_S = 0.010  # Kaldi's frame shift, as AST was trained (Gong et al., 2021)
FBANK_WINDOW_S = 0.025


@dataclass(frozen=True, slots=True)
class AstFiles:
    """The three files of an AST."""

    config: Path
    preprocessor: Path
    weights: WeightsFile


def resolve_ast(model: str) -> AstFiles:
    """The files of a model: shipped, in a local folder, or in the cache of the hub.

    Raises `WeightsError` if one is missing.
    """
    shipped = SHIPPED / model
    folder = shipped if shipped.is_dir() else Path(model)
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    if folder.is_dir():
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise WeightsError(
                f"encoders.ast.model = {model!r}: the folder lacks {', '.join(missing)}; an AST "
                f"is the three files {', '.join(names)}"
            )
        config, preprocessor, weights = (folder / name for name in names)
    else:
        try:
            from transformers.utils.hub import cached_file  # seconds

            config, preprocessor, weights = (Path(str(cached_file(model, name))) for name in names)
        except (OSError, ValueError) as error:
            shipped = ", ".join(repr(path.parent.name) for path in SHIPPED.glob("*/config.json"))
            raise WeightsError(
                f"encoders.ast.model = {model!r} is no local folder, and its files are not in the "
                f"hub's cache and cannot be fetched ({one_line(error)}). They are "
                f"{', '.join(names)} of https://huggingface.co/{model}: fetch them once with a "
                "network and HF_HUB_OFFLINE unset, or point at a local copy with model=FOLDER "
                "(encoders.1.model=FOLDER where it is the second encoder). With vaflow comes "
                f"{shipped}"
            ) from error
    return AstFiles(config, preprocessor, WeightsFile.of(weights))
