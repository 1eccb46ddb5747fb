"""Faces in video: detectors, the tracker, and the alignment of crops.

To add a detector, write its module in this package and add its config to this union.
"""

from features.faces.yunet import YuNetConfig

AnyDetectorConfig = YuNetConfig
