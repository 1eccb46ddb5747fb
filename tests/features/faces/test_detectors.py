"""Every detector; those with weights on drawn faces; YuNet against OpenCV's values."""

from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from features.encoders.faces import FacesConfig
from features.errors import WeightsError
from features.faces import AnyDetectorConfig
from features.faces.detector import Detector, DetectorConfig
from features.faces.yunet import SHIPPED, YuNetConfig
from features.faces.yunet_model import YuNet
from features.synthetic.people import GREY, TWO_PEOPLE, draw_people
from tests.helpers.retinaface_reference import seeded_weights

KINDS = get_args(get_args(AnyDetectorConfig)[0])
WITH_WEIGHTS = (YuNetConfig(),)  # vaflow brings them
OPENCV = np.array(
    # left, top, width, height; x and y of eyes, nose, mouth corners; score
    # cv2.FaceDetectorYN 5.0.0 on `draw_people()`, score 0.7, NMS 0.3, on BGR
    [
        [39.2080, 58.4838, 67.7320, 86.4078, 58.7135, 90.5810, 92.2122, 91.7104, 76.0116, 107.9497,
         59.5734, 118.4291, 88.5630, 122.9463, 0.93060],
        [160.6250, 54.9575, 48.9791, 59.1126, 172.9603, 77.8385, 197.2567, 78.4812, 184.2993,
         89.5149, 174.0191, 99.1747, 193.7923, 98.2051, 0.92487],
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    """By kind, what a config needs beside its defaults: a file of weights that are not trained."""
    path = tmp_path_factory.mktemp("weights") / "retinaface.safetensors"
    save_file(seeded_weights(), path)
    return {"yunet": {}, "retinaface": {"weights": path}}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model_fields["kind"].default)
class TestEveryDetector:
    @pytest.fixture
    def config(self, kind, weights_of):
        return kind(**weights_of[kind.model_fields["kind"].default])

    def test_it_has_the_protocol(self, config):
        assert isinstance(config, DetectorConfig)
        assert isinstance(config.build(), Detector)
        assert len(config.weights_sha256()) == 64
        assert config.as_spec()["kind"] == config.kind
        assert "weights" not in config.as_spec()  # a path decides nothing

    def test_the_union_reads_it_by_its_kind(self, config):
        faces = FacesConfig(detector=config.model_dump(mode="json"))

        assert faces.detector == config
        assert faces.spec().model["name"] == config.kind

    def test_an_image_is_padded_with_black_to_multiples_of_32(self, config):
        picture = draw_people()  # 250 x 190
        padded = np.zeros((192, 256, 3), np.uint8)
        padded[:190, :250] = picture
        detector = config.build()

        assert len(detector.detect(picture)) >= 2
        np.testing.assert_array_equal(
            detector.detect(padded).landmarks_px, detector.detect(picture).landmarks_px
        )

    def test_it_accepts_flipped_and_read_only_images_of_any_size(self, config):
        mirrored = draw_people()[:, ::-1]
        mirrored.flags.writeable = False
        detector = config.build()

        assert len(detector.detect(mirrored)) >= 2
        np.testing.assert_array_equal(
            detector.detect(mirrored).boxes_px,
            detector.detect(np.ascontiguousarray(mirrored)).boxes_px,
        )
        assert detector.detect(np.zeros((1, 1, 3), np.uint8)).boxes_px.shape[1] == 4

    def test_its_faces_are_sorted_and_none_above_the_threshold_is_no_face(self, config):
        scores = config.build().detect(draw_people()).scores
        none = config.model_copy(update={"min_score": 1.0}).build().detect(draw_people())

        assert (np.diff(scores) <= 0).all()
        assert len(none) == 0
        assert none.landmarks_px.shape == (0, 5, 2)

    def test_a_file_that_is_missing_or_of_something_else_is_named(self, kind, tmp_path):
        save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
        (tmp_path / "text.safetensors").write_text("no weights")

        with pytest.raises(WeightsError, match="there is no file of weights .*gone; correct"):
            kind(weights=tmp_path / "gone").weights_sha256()
        for name in ("other", "text"):
            with pytest.raises(WeightsError, match=f"{name}.safetensors holds no weights of"):
                kind(weights=tmp_path / f"{name}.safetensors").build()

    def test_a_threshold_beyond_1_is_refused(self, kind):
        with pytest.raises(ValidationError, match="min_score"):
            kind(weights="x", min_score=1.1)


@pytest.mark.parametrize("config", WITH_WEIGHTS, ids=lambda config: config.kind)
class TestEveryDetectorWithWeights:
    def test_its_faces_lie_where_they_were_drawn(self, config):
        faces = config.build().detect(draw_people())

        assert len(faces) == 2
        left_to_right = np.argsort(faces.boxes_px[:, 0])
        for face, pose in zip(left_to_right, TWO_PEOPLE, strict=True):
            left, top, width, height = faces.boxes_px[face]
            assert left < pose.x_px < left + width
            assert top < pose.y_px < top + height
            eye, other_eye, nose, mouth, other_mouth = faces.landmarks_px[face]
            assert eye[0] < nose[0] < other_eye[0]
            assert mouth[0] < nose[0] < other_mouth[0]
            assert max(eye[1], other_eye[1]) < nose[1] < min(mouth[1], other_mouth[1])

    @pytest.mark.parametrize("size", [(250, 190), (1, 1), (32, 32), (33, 31)])
    def test_an_image_without_a_face_has_none(self, config, size):
        faces = config.build().detect(draw_people((), size))

        assert len(faces) == 0
        assert faces.landmarks_px.shape == (0, 5, 2)


def test_yunet_finds_what_opencv_finds():
    faces = YuNetConfig().build().detect(draw_people())

    ours = np.concatenate([faces.boxes_px, faces.landmarks_px.reshape(2, 10)], axis=1)
    np.testing.assert_allclose(ours, OPENCV[:, :14], atol=1e-3)
    np.testing.assert_allclose(faces.scores, OPENCV[:, 14], atol=1e-5)


def test_the_score_threshold_of_yunet_is_exact():
    [first, second] = YuNetConfig().build().detect(draw_people()).scores

    assert len(YuNetConfig(min_score=float(first)).build().detect(draw_people())) == 1
    assert len(YuNetConfig(min_score=float(second)).build().detect(draw_people())) == 2
    assert len(YuNetConfig(min_score=0.99).build().detect(draw_people())) == 0


def test_boxes_of_one_face_are_suppressed_by_overlap():
    kept = YuNetConfig(max_overlap=1.0).build().detect(draw_people())
    faces = YuNetConfig().build().detect(draw_people())

    assert len(kept) > len(faces) == 2
    np.testing.assert_array_equal(kept.boxes_px[0], faces.boxes_px[0])  # the best is kept


def test_yunet_decodes_a_cell_as_documented():
    config = YuNetConfig(min_score=0.5)
    network = YuNet()
    for weights in network.parameters():  # only biases are left: every cell gives the same
        weights.data.zero_()
    for level in range(3):
        for name, values in {
            "cls": [20.0],
            "obj": [20.0 if level == 2 else -20.0],  # probability 1 at stride 32 only
            "bbox": [0.5, 0.25, np.log(2), np.log(0.5)],
            "kps": [0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 1.0, 1.0, 1.0],
        }.items():
            head = network.bbox_head[f"multi_level_{name}"][level]
            head.conv2.bias.data = torch.tensor(values, dtype=torch.float32)
    detector = config.build()
    detector.network = network.eval()

    faces = detector.detect(np.zeros((32, 64, 3), np.uint8))

    # cells 0 and 1 of stride 32: centre (0.5 + c, 0.25) * 32, size (64, 16)
    # their boxes share 32 of 96 columns: overlap 1/3 > 0.3, the first one stays
    np.testing.assert_allclose(faces.boxes_px, [[-16.0, 0.0, 64.0, 16.0]], atol=1e-4)
    landmarks = [[0, 0], [32, 0], [16, 16], [0, 32], [32, 32]]
    np.testing.assert_allclose(faces.landmarks_px, [landmarks], atol=1e-4)
    np.testing.assert_allclose(faces.scores, [1.0], atol=1e-6)


def test_a_file_of_weights_of_ones_own_is_in_the_digest_and_its_path_is_not(tmp_path):
    weights = load_file(SHIPPED)
    save_file(weights, tmp_path / "same.safetensors")
    weights["backbone.model0.conv1.bias"] += 1
    save_file(weights, tmp_path / "other.safetensors")
    same = YuNetConfig(weights=tmp_path / "same.safetensors")
    other = YuNetConfig(weights=tmp_path / "other.safetensors")

    assert same.as_spec() == other.as_spec() == YuNetConfig().as_spec()
    assert other.weights_sha256() != YuNetConfig().weights_sha256()
    assert len(same.build().detect(draw_people())) == 2


def test_the_wall_is_grey_where_nobody_stands():
    assert tuple(draw_people(())[0, 0]) == GREY
