"""The spec of features that no encoder made: noise in the shape of features."""

from features.spec import FeatureSpec


def blank_spec(kind: str) -> FeatureSpec:
    """A spec of this kind with nothing in it."""
    return FeatureSpec(
        kind=kind,
        model={},
        weights_sha256="0" * 64,
        preprocessing={},
        sampling={},
        precision="float32",
    )
