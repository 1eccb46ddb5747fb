"""What a feature set tells of: sight or sound, by the kind of its encoder.

Beside the encoders, not in them: to ask what a store holds should not load what encodes
(seconds), and a test holds both to say the same (test_status.py).
"""

from typing import Literal

Modality = Literal["visual", "audio"]

MODALITY: dict[str, Modality] = {"clip": "visual", "ast": "audio"}
