"""What formats hold, checked before anything is written."""

from pathlib import Path

import numpy as np
import pytest
import pyvips
from versions import skip_unless_written

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.images.limits import FORMATS, WRITTEN, check_format, format_named
from glocal.images.sample_files import read_header


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("upright", [False, True])
def test_limits_of_sides_are_those_of_the_writer(suffix: str, upright: bool) -> None:
    side = FORMATS[suffix].side

    writer = suffix + "[effort=0]" * (suffix == ".avif")

    def written(n: int) -> bytes:
        return bytes(pyvips.Image.black(*((1, n) if upright else (n, 1))).write_to_buffer(writer))

    assert written(side)
    with pytest.raises(pyvips.Error, match=r"too large|[Mm]aximum"):
        written(side + 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "a.webp",
            r"a.webp: .webp files hold at most 16383 .* write a .png or .jpg or .tif or ",
        ),
        ("a.WEBP", ".webp files hold at most 16383 pixels a side, not 1 × 16384"),
        ("a.gif", "a.gif: cannot write '.gif'; use one of"),
        ("a", "a: cannot write a file without a suffix"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(name: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        check_format(Path(name), (16384, 1))


def test_larger_images_have_fewer_formats() -> None:
    for suffix in WRITTEN:
        check_format(Path(f"a{suffix}"), (16383, 16383))
    with pytest.raises(ImageError, match=r"at most 65500 .*; write a .png or .tif"):
        check_format(Path("a.jpeg"), (1, 65501))
    check_format(Path("a.tiff"), (65501, 65501))
    with pytest.raises(ImageError, match="divide the image"):
        check_format(Path("a.png"), (1, 10**8))


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_losses_are_said_as_they_happen(
    tmp_path: Path, suffix: str, dtype: type, has_alpha: bool
) -> None:
    skip_unless_written(suffix)
    alpha = np.full((4, 5), 9, dtype) if has_alpha else None
    images.write(tmp_path / "a.png", Image(np.ones((4, 5, 3), dtype), alpha))
    before = read_header(tmp_path / "a.png").losses(suffix)
    assert images.write(tmp_path / f"b{suffix}", images.read(tmp_path / "a.png")) == before
    restored = images.read(tmp_path / f"b{suffix}")
    held = FORMATS[format_named(suffix)[0]]
    premultiplied = has_alpha and suffix == ".exr"
    assert len(before) == (held.bits < 8 * dtype().itemsize) + (
        premultiplied or (has_alpha and restored.alpha is None)
    )
