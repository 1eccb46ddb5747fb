from features.clip import Clip
from features.manifest.manifest import Manifest, read_manifest
from models.runs.split_manifest import write_split_manifest


def test_only_relative_paths_go_through_the_link_and_allowed_folders_stay(tmp_path):
    clip = Clip(id="a", video="/data/a.mp4", labels="l/a.txt", split="train")
    manifest = Manifest(tmp_path, (clip, Clip(id="b")), ("/data",))
    write_split_manifest(tmp_path / "m.jsonl", manifest, {"a": "val"})
    found = read_manifest(tmp_path / "m.jsonl")
    [written] = found.clips
    assert (written.video, written.labels, written.split) == (
        "/data/a.mp4",
        "inputs/l/a.txt",
        "val",
    )
    assert found.allow_outside == ("/data",)
