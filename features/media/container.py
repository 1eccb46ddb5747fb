"""Opens media containers: known formats and codecs only, no other files, within limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.container
import av.error

from features.errors import MediaCode, MediaError
from features.media.limits import DecodeLimits, check_bytes, check_pixels, check_time, limit_error

DEMUXERS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,wav,mp3,flac,ogg,aac"
DECODERS = (  # in FFmpeg's names: what cameras, phones, editors and the web write
    "h264,hevc,libdav1d,av1,vp8,vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,"
    "wmv1,wmv2,wmv3,vc1,h263,flv,theora,mjpeg,prores,dnxhd,dvvideo,ffv1,huffyuv,rawvideo,"
    "aac,aac_latm,mp1float,mp1,mp2float,mp2,mp3float,mp3,ac3,eac3,opus,vorbis,flac,alac,wmav1,wmav2,"
    "amrnb,amrwb,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_f32le,pcm_f64le,"
    "pcm_mulaw,pcm_alaw,adpcm_ms,adpcm_ima_wav"
)
# without these a playlist (ffconcat, HLS) named .mp4 makes FFmpeg open other files
# (`test_video.py::test_a_file_that_is_no_media_is_refused`)
WHITELISTS = {
    "protocol_whitelist": "file",
    "format_whitelist": DEMUXERS,
    "codec_whitelist": DECODERS,
}


@contextmanager
def open_container(path: Path, limits: DecodeLimits) -> Iterator[av.container.InputContainer]:
    """Open a container; within, every error of FFmpeg is a `MediaError` with its message."""
    if not path.is_file():
        raise MediaError(f"{path}: there is no such file; correct the manifest", "missing")
    n_bytes = path.stat().st_size
    if n_bytes == 0:
        raise MediaError(f"{path} is empty (0 bytes); replace the file", "empty")
    check_bytes(path, n_bytes, limits)
    code: MediaCode = "not-media"
    options = {**WHITELISTS, "max_pixels": str(limits.pixels)}
    try:
        with av.open(str(path), options=options) as container:
            code = "damaged"
            n_streams = len(container.streams)
            if n_streams > limits.streams:
                reason = f"it has {n_streams} tracks"
                raise limit_error(path, "limit-streams", reason, "streams", limits)
            check_time(path, (container.duration or 0) / av.time_base, limits)
            yield container
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        if isinstance(error, MemoryError):
            raise  # the process is out of memory: not an error of the file
        reason = error.strerror if isinstance(error, av.error.FFmpegError) else error
        raise MediaError(f"{path} cannot be decoded ({reason}); replace the file", code) from None


def video_stream(
    path: Path, container: av.container.InputContainer, limits: DecodeLimits, n_threads: int = 0
) -> av.VideoStream:
    """The first video stream, set up to decode on `n_threads` (0: one per core)."""
    if not container.streams.video:
        raise MediaError(
            f"{path} has no video; give a file with video, or face crops", "no-picture"
        )
    stream = container.streams.video[0]
    _check_codec(path, stream)
    check_pixels(path, stream.width, stream.height, limits)
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}  # again if the size changes
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = n_threads
    return stream


def audio_stream(path: Path, container: av.container.InputContainer) -> av.AudioStream | None:
    """The first audio stream, if there is one."""
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    _check_codec(path, stream)
    return stream


def _check_codec(path: Path, stream: av.VideoStream | av.AudioStream) -> None:
    # a stream for which FFmpeg has no decoder has no codec context, whatever its type says
    name = stream.codec_context.codec.name if stream.codec_context else "unknown"
    if name not in DECODERS.split(","):
        raise MediaError(
            f"{path} has a {stream.type} track of codec {name!r}, which is not opened; convert the "
            "file, to H.264 and AAC for example",
            "codec",
        )
