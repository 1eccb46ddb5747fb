"""Opens media containers: known formats and codecs only, no other files, within limits."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import av.logging
from av.container import InputContainer

from features.errors import MediaCode, MediaError
from features.media.limits import DecodeLimits, check_bytes, check_pixels, limit_error

DEMUXERS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,wav,mp3,flac,ogg,aac"
_DECODER_NAMES = (
    "h264,hevc,libdav1d,av1,vp8,vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,"
    "wmv1,wmv2,wmv3,vc1,h263,flv,theora,mjpeg,prores,dnxhd,dvvideo,ffv1,huffyuv,rawvideo,"
    "aac,aac_latm,mp1float,mp1,mp2float,mp2,mp3float,mp3,ac3,eac3,opus,vorbis,flac,alac,wmav1,wmav2,"
    "amrnb,amrwb,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_f32le,pcm_f64le,"
    "pcm_mulaw,pcm_alaw,adpcm_ms,adpcm_ima_wav"
)  # as FFmpeg calls them: what cameras, phones, editors and the web write
DECODERS = frozenset(_DECODER_NAMES.split(","))
# without these a playlist (ffconcat, HLS) named .mp4 makes FFmpeg open other files
# (`test_video.py::test_a_file_that_is_no_media_is_refused`)
WHITELISTS = {
    "protocol_whitelist": "file",
    "format_whitelist": DEMUXERS,
    "codec_whitelist": _DECODER_NAMES,
}
OTHER_FORMATS = (  # as people call them, and how their files begin
    ("a GIF file", re.compile(rb"GIF8[79]a")),
    ("a PNG file", re.compile(rb"\x89PNG\r\n")),
    ("a JPEG file", re.compile(rb"\xff\xd8\xff")),
    ("a WebP file", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    (
        "a raw H.264 or H.265 stream without times",
        re.compile(rb"\x00{2,3}\x01[\x09\x27\x40\x46\x67]"),
    ),
)


@contextmanager
def open_container(path: Path, limits: DecodeLimits) -> Iterator[InputContainer]:
    """Open a container; within, every error of FFmpeg is a `MediaError` with its message."""
    if not path.is_file():
        raise MediaError(f"{path}: there is no such file; correct its path", "missing")
    n_bytes = path.stat().st_size
    if n_bytes == 0:
        raise MediaError(f"{path} is empty (0 bytes); replace the file", "empty")
    check_bytes(path, n_bytes, limits)
    code: MediaCode = "not-media"
    options = {**WHITELISTS, "max_pixels": str(limits.pixels)}
    try:
        # a title that is no UTF-8 is no reason to refuse a file: nothing reads it
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            code = "damaged"
            n_streams = len(container.streams)
            if n_streams > limits.streams:
                reason = f"it has {n_streams} tracks"
                raise limit_error(path, "limit-streams", reason, "streams", limits)
            yield container
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        if isinstance(error, MemoryError):
            raise  # the process is out of memory: not an error of the file
        reason = error.strerror if isinstance(error, av.error.FFmpegError) else error
        if name := _other_format(path):
            raise MediaError(
                f"{path} is {name}, which is not decoded; convert it to a video, to H.264 "
                "in an MP4 for example",
                "not-media",
            ) from None
        raise MediaError(f"{path} cannot be decoded ({reason}); replace the file", code) from None


def set_up_video(
    path: Path, stream: av.VideoStream, limits: DecodeLimits, n_threads: int = 0
) -> None:
    """Set a stream up to decode on `n_threads` (0: one per core)."""
    check_codec(path, stream)
    check_pixels(path, stream.width, stream.height, limits)
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}  # again if the size changes
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = n_threads


def no_video_error(path: Path, limits: DecodeLimits) -> MediaError:
    """The error for a file without a video track that can be decoded."""
    with open_container(path, limits) as container:
        for stream in container.streams.video:
            check_codec(path, stream)
    return MediaError(f"{path} has no video; give a file with video, or face crops", "no-picture")


def codec_name(stream: av.VideoStream | av.AudioStream) -> str:
    """FFmpeg's name of a stream's decoder, or "unknown"."""
    # a stream for which FFmpeg has no decoder has no codec context, whatever its type says
    return stream.codec_context.codec.name if stream.codec_context else "unknown"


def check_codec(path: Path, stream: av.VideoStream | av.AudioStream) -> None:
    """Raise `MediaError` that names the codec if it is not one that is decoded."""
    name = codec_name(stream)
    if name not in DECODERS:
        name = _codec_without_decoder(stream) if name == "unknown" else repr(name)
        kind = {"video": "a video", "audio": "an audio"}[stream.type]
        raise MediaError(
            f"{path} has {kind} track of codec {name}, which is not decoded; convert the "
            "file, to H.264 and AAC for example",
            "codec",
        )


def _codec_without_decoder(stream: av.VideoStream | av.AudioStream) -> str:
    """Return the name and the tag of a codec, from FFmpeg's description of the file."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # at a lower level the description is empty
    try:
        description: str = stream.container.dumps_format()  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        av.logging.set_level(level)
    found = re.search(
        rf"^ *Stream #0:{stream.index}\b.*?: (?:Video|Audio): ([^,\n]+)", description, re.MULTILINE
    )
    return repr(found[1]) if found else "'unknown'"


def _other_format(path: Path) -> str | None:
    """Return the name of a format that people take for video and that is not opened."""
    with path.open("rb") as file:
        head = file.read(12)
    return next((name for name, start in OTHER_FORMATS if start.match(head)), None)
