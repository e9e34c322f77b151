"""The largest clip that is read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClipLimits:
    """Bounds of a file that is read as a clip; none of them trusts what the file says of itself."""

    max_bytes: int = 32 << 20  # of the file
    max_pixels: int = 1920 * 1080  # of a frame
    max_frames: int = 3600  # of the file, and of the clip at the wanted rate
    max_seconds: float = 60.0
    max_clip_pixels: int = 64 << 20  # of all frames of the clip together; 3 bytes each
    timeout_seconds: int = 20  # of the process that decodes

    @property
    def memory(self) -> int:
        """Bytes of address space for the process that decodes: what its libraries take, and the
        frames that a decoder keeps, of which the standards allow 16.
        """
        return (512 << 20) + 64 * self.max_pixels + 4 * self.max_bytes
