"""The kinds of encoders. To add one, write its module in `features/encoders` and its line here."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Literal, NamedTuple

from features.config import Config
from features.errors import InputError
from features.plugins import ENCODERS, Plugin, class_problem, config_class, plugins

Modality = Literal["visual", "audio", "faces"]


class EncoderKind(NamedTuple):
    """A kind of encoder: what it reads, and where its config is."""

    modality: Modality
    config: str
    """`module:Class`; imported when it is asked for, because encoders import large libraries."""


KINDS: dict[str, EncoderKind] = {
    "clip": EncoderKind("visual", "features.encoders.clip:ClipConfig"),
    "ast": EncoderKind("audio", "features.encoders.ast:AstConfig"),
    "timm": EncoderKind("visual", "features.encoders.timm:TimmConfig"),
    "pixels": EncoderKind("visual", "features.encoders.pixels:PixelsConfig"),
    "wavlm": EncoderKind("audio", "features.encoders.speech:WavLmConfig"),
    "wav2vec2": EncoderKind("audio", "features.encoders.speech:Wav2Vec2Config"),
    "hubert": EncoderKind("audio", "features.encoders.speech:HubertConfig"),
    "whisper": EncoderKind("audio", "features.encoders.whisper:WhisperConfig"),
    "egemaps": EncoderKind("audio", "features.encoders.egemaps:EgemapsConfig"),
    "loudness": EncoderKind("audio", "features.encoders.loudness:LoudnessConfig"),
    "faces": EncoderKind("faces", "features.encoders.faces:FacesConfig"),
}


def config_of(kind: str) -> Any:
    """The config class of one of `KINDS`."""
    module, _, name = KINDS[kind].config.partition(":")
    return getattr(import_module(module), name)


def plugin_config(plugin: Plugin) -> Any:
    """The config class of a plug-in; `InputError` if it cannot be imported or is no encoder's."""
    return config_class(plugin, _problem)


def _problem(plugin: Plugin, config: Any) -> str:
    """What is wrong with the config of a plug-in, in words; empty if nothing is."""
    is_config = isinstance(config, type) and issubclass(config, Config)
    if not is_config or not all(hasattr(config, name) for name in ("spec", "build")):
        return f"{plugin.target} must be a subclass of features.encoders.base.EncoderConfig"
    if problem := class_problem(plugin, config, Config, KINDS):
        return problem
    if getattr(config, "modality", None) not in ("visual", "audio"):
        return f'{plugin.target} needs modality: ClassVar[Modality] = "visual", or "audio"'
    return ""


class _Modalities(Mapping[str, Modality]):
    """The modality of each kind; of that of a plug-in, by importing it."""

    def __getitem__(self, kind: str) -> Modality:
        if kind in KINDS:
            return KINDS[kind].modality
        for plugin in plugins(ENCODERS):
            if plugin.name == kind:
                try:
                    return plugin_config(plugin).modality
                except InputError as error:  # `vaflow plugins` and a config that names it say why
                    raise KeyError(kind) from error
        raise KeyError(kind)

    def __iter__(self) -> Iterator[str]:
        yield from KINDS
        yield from (plugin.name for plugin in plugins(ENCODERS) if plugin.name not in KINDS)

    def __len__(self) -> int:
        return len(list(iter(self)))


MODALITY: Mapping[str, Modality] = _Modalities()
"""The modality of each kind of encoder."""
