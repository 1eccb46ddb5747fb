"""The people in the frames of a live stream, with the picture of each that is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from features.encoders.faces import MAX_FACES, FaceFinder, FacesConfig
from features.faces.record import N_COLUMNS, SCORE, TRACK
from features.media.display import Image
from models.prediction.people import MaxPeople

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """A person in one frame."""

    picture: Image | None
    """What is encoded; None if the person is not seen in this frame."""
    box: Box | None = None
    """Left, top, width and height in pixels; None for a whole frame, or if not seen."""


class WholeFrames:
    """One person, whose pictures are the whole frames."""

    def look(self, image: Image | None) -> Mapping[int, Seen]:
        """Return the people of the next frame by number; `image` is None if it is damaged."""
        return {1: Seen(image)}


class LiveFaces:
    """The people whose faces are found and followed; each track is a person.

    The tracker looks at earlier frames only. Nothing joins the tracks of a person who was away, as
    is done when the whole video is known.
    """

    def __init__(self, config: FacesConfig, people: MaxPeople) -> None:
        self._alignment = config.alignment
        most = {"all": config.people.max_people, "largest": 1}
        self._n_people = most[people] if isinstance(people, str) else people
        self._finder = FaceFinder(config.build(torch.device("cpu")))

    def look(self, image: Image | None) -> Mapping[int, Seen]:
        """Return the people of the next frame by number: those in it, and those who are missed.

        Of many they are the ones whose faces cover the largest area, summed over the frames since
        they appeared.
        """
        if image is None:
            return dict.fromkeys(self._largest(), Seen(None))
        faces = self._finder.row(image).reshape(MAX_FACES, N_COLUMNS)
        self._finder.forget_ended()
        seen = dict.fromkeys(self._largest(), Seen(None))
        for face in faces[faces[:, TRACK] > 0]:
            if (track := int(face[TRACK])) in seen:
                x, y, width, height = face[:4].tolist()
                points = face[4:SCORE].reshape(5, 2)
                seen[track] = Seen(self._alignment.crop(image, points), (x, y, width, height))
        return seen

    def _largest(self) -> list[int]:
        tracks = self._finder.tracks.values()
        largest = sorted(tracks, key=lambda track: (-track.area_px2, track.id))
        return sorted(track.id for track in largest[: self._n_people])
