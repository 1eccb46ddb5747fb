"""What every face detector keeps, checked on a drawn picture; for our own and for plug-ins."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from features.faces.detector import LANDMARKS, Detector, DetectorConfig, Faces
from features.plugins import Check, Rule, run_checks
from features.synthetic.people import draw_people

SIZE_PX = (250, 190)
Picture = UInt8[np.ndarray, "H W 3"]


def check_detector(config: DetectorConfig) -> tuple[Check, ...]:
    """Check a detector against the contract; the first broken rule is the last result.

    Raises what the detector itself raises, such as `WeightsError` if its weights are not at hand.
    """
    return run_checks(_rules(config))


def _rules(config: DetectorConfig) -> Iterator[Rule]:
    picture, wall = draw_people(size_px=SIZE_PX), draw_people((), SIZE_PX)
    picture.flags.writeable = wall.flags.writeable = False
    yield "the spec is of the kind, and the same each time", lambda: _spec(config)
    detector = config.build()
    yield "`build` returns a features.faces.detector.Detector", lambda: _protocol(detector)
    yield "it finds a face in a drawn picture", lambda: _finds(detector, picture)
    yield "faces are arrays of the documented shapes, finite", lambda: _shapes(detector, picture)
    yield "scores are from 0 to 1, the highest first", lambda: _scores(detector, picture)
    yield "boxes and landmarks lie within the picture", lambda: _places(detector, picture)
    yield (
        "a picture has the same faces each time",
        lambda: _repeats(config, detector, picture, wall),
    )
    yield "an empty picture has no face", lambda: _empty(detector, wall)


def _spec(config: DetectorConfig) -> str | None:
    copy = type(config).model_validate(config.model_dump(mode="json"))
    if config.as_spec().get("kind") != type(config).model_fields["kind"].default:
        return f"as_spec() has the kind {config.as_spec().get('kind')!r}"
    if (copy.as_spec(), copy.weights_sha256()) != (config.as_spec(), config.weights_sha256()):
        return "the same config, written as JSON and read again, has another spec"
    if len(config.weights_sha256()) != 64:
        return f"weights_sha256() is {config.weights_sha256()!r}, no sha256 in hexadecimal"
    return None


def _protocol(detector: object) -> str | None:
    return None if isinstance(detector, Detector) else "it has no method `detect`"


def _finds(detector: Detector, picture: Picture) -> str | None:
    faces = detector.detect(picture)
    if not isinstance(faces, Faces):
        return f"`detect` returned a {type(faces).__name__}, not features.faces.detector.Faces"
    if not len(faces):
        return "it found none of the two people; lower its threshold with key=value"
    return None


def _shapes(detector: Detector, picture: Picture) -> str | None:
    faces = detector.detect(picture)
    n_faces = len(faces)
    expected = {
        "boxes_px": (n_faces, 4),
        "landmarks_px": (n_faces, len(LANDMARKS), 2),
        "scores": (n_faces,),
    }
    for name, shape in expected.items():
        array = getattr(faces, name)
        if array.shape != shape or array.dtype != np.float32:
            return f"{name} has {array.shape} {array.dtype}, not {shape} float32"
        if not np.isfinite(array).all():
            return f"{name} has a value that is not finite"
    return None


def _scores(detector: Detector, picture: Picture) -> str | None:
    scores = detector.detect(picture).scores
    if (scores < 0).any() or (scores > 1).any() or (np.diff(scores) > 0).any():
        return f"the scores are {', '.join(f'{score:g}' for score in scores)}"
    return None


def _places(detector: Detector, picture: Picture) -> str | None:
    faces = detector.detect(picture)
    size_px = np.array(SIZE_PX)
    start, size = faces.boxes_px[:, :2], faces.boxes_px[:, 2:]
    if (size <= 0).any():
        return "a box has a width or height that is not above 0"
    if (start >= size_px).any() or (start + size <= 0).any():
        return "a box lies outside the picture; boxes are left, top, width, height in pixels"
    if (faces.landmarks_px < 0).any() or (faces.landmarks_px >= size_px).any():
        return "a landmark lies outside the picture; landmarks are x, y in pixels"
    return None


def _repeats(
    config: DetectorConfig, detector: Detector, picture: Picture, wall: Picture
) -> str | None:
    first = detector.detect(picture)
    detector.detect(wall)
    detector.detect(np.ascontiguousarray(picture[:, ::-1]))
    if not _equal(first, detector.detect(picture)):
        return "a picture that is searched again after others has other faces"
    if not _equal(first, config.build().detect(picture)):
        return "a detector that is built again finds other faces"
    return None


def _empty(detector: Detector, wall: Picture) -> str | None:
    for empty in (wall, wall[:1, :1]):
        faces = detector.detect(empty)
        if len(faces):
            return f"it found {len(faces)} in a grey picture of {empty.shape[1]} x {empty.shape[0]}"
        if faces.boxes_px.shape != (0, 4) or faces.landmarks_px.shape != (0, len(LANDMARKS), 2):
            return "no faces are arrays of (0, 4), (0, 5, 2) and (0,)"
    return None


def _equal(a: Faces, b: Faces) -> bool:
    return (
        np.array_equal(a.boxes_px, b.boxes_px)
        and np.array_equal(a.landmarks_px, b.landmarks_px)
        and np.array_equal(a.scores, b.scores)
    )
