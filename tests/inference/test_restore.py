import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError
from glocal.inference import restore as restore_module
from glocal.inference.memory import Need
from glocal.inference.restore import FALLBACK_TILES, GlocalWarning, restore


class Double(nn.Module):
    """Gives the image and its negative."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, 1 - x]


class Enlarge(nn.Module):
    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Multiples(nn.Module):
    """Refuses sizes that are not multiples of ``by``, as an encoder with skips does."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % self.by or x.shape[-1] % self.by:
            raise RuntimeError("The size of tensor a must match the size of tensor b")
        self.sizes.append(tuple(x.shape))
        return x


class Hungry(nn.Module):
    """Has memory for ``pixels`` of input."""

    def __init__(self, pixels: int, error: Exception) -> None:
        super().__init__()
        self.pixels, self.error = pixels, error
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape[-2:]))
        if x.shape[-2] * x.shape[-1] > self.pixels:
            raise self.error
        return x


def blur() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect")


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(21, 34), (21, 34, 1), (21, 34, 3)])
@pytest.mark.parametrize("tile", [None, 16])
def test_arrays_keep_shape_type_and_values(
    dtype: type, shape: tuple[int, ...], tile: int | None
) -> None:
    values = np.random.default_rng(0).random(shape)
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values * np.iinfo(dtype).max)
    image = values.astype(dtype)
    restored = restore(nn.Identity(), image, tile=tile)
    assert restored.dtype == dtype
    assert restored.flags.c_contiguous
    if np.issubdtype(dtype, np.integer):
        np.testing.assert_array_equal(restored, image)
    else:
        np.testing.assert_allclose(restored, image, rtol=1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 21, 34), (2, 3, 21, 34), (1, 21, 34)])
def test_tensors_keep_shape_type_and_values(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    image = photo(*shape).to(dtype)
    restored = restore(nn.Identity(), image)
    assert restored.dtype == dtype
    torch.testing.assert_close(restored, image, rtol=1e-6, atol=1e-6)


def test_float64_network_and_tiles_keep_float64_precision() -> None:
    model = blur().double()
    image = photo(3, 40, 40).double()
    tiled = restore(model, image, tile=24, overlap=12)
    torch.testing.assert_close(tiled[:, 20, 20], model(image)[:, 20, 20].detach(), atol=1, rtol=1)
    identity = restore(nn.Sequential(nn.Identity(), Scale(1.0).double()), image, tile=24)
    torch.testing.assert_close(identity, image, rtol=1e-12, atol=1e-12)


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_integers_are_clamped_and_floats_are_not() -> None:
    half = np.full((4, 4, 3), 200, np.uint8)
    assert restore(Scale(2.0), half).max() == 255
    assert restore(Scale(-1.0), half).max() == 0
    assert restore(Scale(2.0), photo(3, 4, 4)).max() > 1


def test_integers_are_rounded() -> None:
    image = np.array([[[100]], [[101]]], np.uint8)
    np.testing.assert_array_equal(restore(Scale(0.996), image), [[[100]], [[101]]])


def test_other_array_layouts_in_memory_are_read() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (12, 20, 3)).astype(">u2")
    assert restore(nn.Identity(), image).dtype == np.dtype("u2")
    np.testing.assert_array_equal(restore(nn.Identity(), image), image)
    flipped = image.astype(np.uint8)[::-1, ::-1]
    flipped.flags.writeable = False
    np.testing.assert_array_equal(restore(nn.Identity(), flipped), flipped)


def test_the_image_is_left_as_it_was() -> None:
    image = photo(3, 32, 32)
    before = image.clone()
    restore(nn.ReLU(inplace=True), image - 0.5)
    restored = restore(nn.Identity(), image)
    restored.zero_()
    torch.testing.assert_close(image, before)


def test_an_in_place_network_does_not_touch_the_image() -> None:
    image = photo(3, 16, 16) - 0.5
    before = image.clone()
    restore(nn.ReLU(inplace=True), image)
    torch.testing.assert_close(image, before)
    array = before.permute(1, 2, 0).numpy().copy()
    restore(nn.ReLU(inplace=True), array)
    np.testing.assert_array_equal(array, before.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("tile", [32, (24, 50), 1000])
def test_tiles_of_a_local_network_equal_the_whole(tile: int | tuple[int, int]) -> None:
    model = blur()
    image = photo(2, 3, 70, 93)
    whole = restore(model, image)
    tiled = restore(model, image, tile=tile, overlap=12)
    # a tile's own border pads differently; everything further in is the same
    difference = (tiled - whole).abs()
    assert difference.max() < 0.15
    assert difference.median() < 1e-6


def test_overlaps_turn_steps_between_tiles_into_slopes() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((-2, -1), keepdim=True).expand_as(x)

    def largest_step(width: int) -> float:
        ramp = torch.arange(width).expand(1, 8, width) / 100
        return float(restore(Mean(), ramp, tile=40, overlap=0).diff().abs().max())

    assert largest_step(80) == pytest.approx(0.4)  # two tiles side by side, 40 pixels apart
    assert largest_step(70) == pytest.approx(0.3 / 11, rel=1e-4)  # 30 pixels apart, fading over 10


def test_pointwise_network_in_tiles_equals_the_whole_exactly_enough() -> None:
    model, image = nn.Conv2d(3, 3, 1), photo(3, 75, 101)
    torch.testing.assert_close(
        restore(model, image, tile=32), restore(model, image), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tile", [None, 16])
def test_super_resolution(scale: int, tile: int | None) -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 37, 3), dtype=np.uint8)
    restored = restore(Enlarge(scale), image, tile=tile)
    np.testing.assert_array_equal(restored, image.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("by", [2, 8, 16, 24, 64])
def test_refused_sizes_are_padded_and_cropped_back(by: int) -> None:
    image = photo(3, 37, 50)
    if by == 24:
        with pytest.raises(RuntimeError, match="must match"):
            restore(Multiples(by), image)
        return
    torch.testing.assert_close(restore(Multiples(by), image), image)


def test_super_resolution_of_a_padded_size() -> None:
    model = nn.Sequential(Multiples(16), Enlarge(2))
    image = photo(3, 19, 21)
    expected = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(restore(model, image), expected)
    torch.testing.assert_close(restore(model, image, tile=12), expected)


def test_accepted_sizes_are_not_padded() -> None:
    model = Multiples(1)
    restore(model, photo(3, 37, 50))
    assert model.sizes == [(1, 3, 37, 50)]


def test_outputs_cut_to_a_multiple_are_padded_for() -> None:
    class Floor(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[..., : x.shape[-2] // 8 * 8, : x.shape[-1] // 8 * 8]

    image = photo(3, 37, 50)
    torch.testing.assert_close(restore(Floor(), image), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_tiny_images(size: tuple[int, int]) -> None:
    image = photo(3, *size)
    torch.testing.assert_close(restore(Multiples(32), image), image)


def test_grey_through_a_colour_network_is_averaged() -> None:
    model = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.diag(torch.tensor([0.3, 0.6, 0.9]))[..., None, None])
    image = photo(1, 8, 8)
    torch.testing.assert_close(restore(model, image), image * 0.6)
    torch.testing.assert_close(restore(model, image[0].numpy()), (image[0] * 0.6).numpy())


def test_grey_through_a_grey_network_stays_one_channel() -> None:
    model = nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 1, 1))
    assert restore(model, photo(1, 8, 8)).shape == (1, 8, 8)


def test_channels_can_be_given() -> None:
    seen: list[int] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape[1])
            return x

    restore(Look(), photo(1, 8, 8))
    restore(Look(), photo(1, 8, 8), channels=3)
    assert seen == [1, 3]


def test_outputs_are_chosen() -> None:
    image = photo(3, 8, 8)
    torch.testing.assert_close(restore(Double(), image, output=1), 1 - image)
    torch.testing.assert_close(restore(Double(), image, output=-2), image)
    with pytest.raises(ArgumentError, match=r"returns 2 outputs.*choose one with output="):
        restore(Double(), image)
    with pytest.raises(ArgumentError, match="output=2"):
        restore(Double(), image, output=2)
    with pytest.raises(ArgumentError, match="output=1, but the network returns one output"):
        restore(nn.Identity(), image, output=1)


def test_results_that_are_no_images_are_refused() -> None:
    with pytest.raises(ArgumentError, match="expected \\(b, c, h, w\\)"):
        restore(nn.Flatten(), photo(3, 8, 8))
    with pytest.raises(ArgumentError, match="no whole multiple"):
        restore(nn.MaxPool2d(2), photo(3, 8, 8))

    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"image": x}

    with pytest.raises(ArgumentError, match="returned dict"):
        restore(Named(), photo(3, 8, 8))


def test_mode_and_flags_survive() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9)))
    model[1].eval()
    flags = [module.training for module in model.modules()]
    image = photo(3, 16, 16)
    torch.testing.assert_close(restore(model, image), image, rtol=1e-4, atol=1e-4)
    assert [module.training for module in model.modules()] == flags
    with pytest.raises(ArgumentError):
        restore(nn.Sequential(model, nn.Flatten()), image)
    assert [module.training for module in model.modules()] == flags


def test_result_may_take_part_in_autograd() -> None:
    weight = torch.ones((), requires_grad=True)
    restored = restore(nn.Conv2d(3, 3, 1), photo(3, 8, 8))
    assert not restored.requires_grad
    (restored * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_narrow_types_run_by_autocast(dtype: torch.dtype | str) -> None:
    model, seen = nn.Conv2d(3, 3, 1), []
    model.register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    image = photo(3, 16, 16)
    restored = restore(model, image, dtype=dtype)
    assert seen == [torch.bfloat16 if dtype == "bfloat16" else torch.float16]
    assert restored.dtype == torch.float32
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(restored, restore(model, image), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", ["float64", "int8", "nonsense", "nn", torch.float64])
def test_other_types_are_refused(dtype: torch.dtype | str) -> None:
    with pytest.raises(ArgumentError, match=r"give torch\.float32, bfloat16 or float16"):
        restore(nn.Conv2d(3, 3, 1), photo(3, 8, 8), dtype=dtype)


def test_own_narrow_type_is_used_without_autocast() -> None:
    model = nn.Conv2d(3, 3, 1).bfloat16()
    assert restore(model, photo(3, 8, 8)).dtype == torch.float32
    with pytest.raises(ArgumentError, match="convert the network first"):
        restore(model, photo(3, 8, 8), dtype="float32")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_short_memory_falls_back_to_tiles_and_says_so(error: Exception) -> None:
    model, image = Hungry(512 * 512, error), photo(1, 300, 1100)
    with pytest.warns(GlocalWarning) as warned:
        restored = restore(model, image)
    assert [str(w.message) for w in warned] == [
        "not enough memory for 300×1100 pixels at once; going on in blended tiles of 1024×1024",
        "not enough memory for 1024×1024 pixels at once; going on in blended tiles of 512×512",
    ]
    assert model.sizes == [(300, 1100), (300, 1024), (300, 512), (300, 512), (300, 512)]
    torch.testing.assert_close(restored, image)


def test_smaller_tiles_keep_the_overlap_that_is_asked_for() -> None:
    model, image = Hungry(512 * 512, MemoryError()), photo(1, 300, 1300)
    with pytest.warns(GlocalWarning) as warned:
        restore(model, image, overlap=400)
    assert str(warned[-1].message).endswith("going on in blended tiles of 512×512")
    # 300 rows have one tile; 1300 columns have them at 0, 99, 197, ... for an overlap of 400
    assert model.sizes.count((300, 512)) == 9
    with pytest.warns(GlocalWarning), pytest.raises(GlocalError, match="tile of 512×512"):
        restore(Hungry(100, MemoryError()), image, overlap=400)
    assert torch.equal(restore(nn.Identity(), photo(1, 30, 40), overlap=400), photo(1, 30, 40))


def test_memory_short_of_the_smallest_tile_is_an_error() -> None:
    assert FALLBACK_TILES[-1] == 256
    with pytest.warns(GlocalWarning), pytest.raises(GlocalError, match="tile of 256×256"):
        restore(Hungry(100, MemoryError()), photo(1, 300, 300))


def test_a_tile_asked_for_is_not_made_smaller() -> None:
    with pytest.raises(GlocalError, match="tile of 64×64 pixels; give a smaller tile"):
        restore(Hungry(100, MemoryError()), photo(1, 100, 100), tile=64)


def test_other_errors_are_the_networks_own() -> None:
    with pytest.raises(ValueError, match="no such thing"):
        restore(Hungry(0, ValueError("no such thing")), photo(1, 8, 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_values_that_are_not_finite_are_said(dtype: type) -> None:
    image = np.ones((8, 8, 3), dtype)
    with pytest.warns(GlocalWarning, match="not finite"):
        restore(Scale(float("nan")), image)


def test_progress_counts_the_tiles() -> None:
    calls: list[tuple[int, int]] = []
    restore(nn.Identity(), photo(3, 40, 20), tile=20, progress=lambda *call: calls.append(call))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    calls.clear()
    restore(nn.Identity(), photo(3, 40, 20), progress=lambda *call: calls.append(call))
    assert calls == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(8, 8),
        torch.zeros(3, 0, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        np.zeros((2, 3, 8, 8)),
        np.zeros((8, 8), np.int32),
        np.zeros((8, 8), bool),
    ],
)
def test_other_images_are_refused(image: Tensor | np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        restore(nn.Identity(), image)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 16), (0, None), (-8, None), (16, -1)])
def test_impossible_tiles_are_refused(tile: int, overlap: int | None) -> None:
    with pytest.raises(ArgumentError, match="cannot cover"):
        restore(nn.Identity(), photo(3, 40, 40), tile=tile, overlap=overlap)


class Gate(nn.Module):
    """One global mean, and a record of the sizes it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
        self.sizes: list[tuple[int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append((x.shape[-2], x.shape[-1]))
        return x * self.gate(x)


def test_a_converted_network_in_tiles_gives_the_whole_image() -> None:
    local = glocal.localize(Gate(), 32)
    image = photo(2, 3, 300, 420)
    whole = restore(local, image)
    said: list[str] = []
    tiled = restore(local, image, tile=256, report=said.append)
    assert said == ["6 of up to 256x256 with a halo of 64"]
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1 / 255)
    torch.testing.assert_close(restore(local, image, tile=(300, 420)), whole, rtol=0, atol=0)
    blended = restore(local, image, tile=256, blend="linear")
    assert (blended - whole).abs().max() > (tiled - whole).abs().max()


@pytest.mark.parametrize("kind", ["tensor", "array", "grey", "uint8"])
def test_tiles_of_every_kind_of_image(kind: str) -> None:
    local = glocal.localize(Gate(), 32)
    image = photo(3, 300, 420) if kind == "tensor" else photo(300, 420, 3).numpy()
    if kind == "grey":
        image = image[..., 0]
    if kind == "uint8":
        image = np.rint(image * 255).astype(np.uint8)
    whole, tiled = restore(local, image), restore(local, image, tile=256)
    assert type(tiled) is type(whole)
    assert tiled.dtype == whole.dtype
    assert tiled.shape == whole.shape
    assert abs(tiled * 1.0 - whole * 1.0).max() <= (1 if kind == "uint8" else 1 / 255)


def test_a_budget_makes_tiles_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    local = glocal.localize(Gate(), 32)
    image = photo(3, 300, 420)
    whole = restore(local, image)
    said: list[str] = []
    # as if the network took 1000 bytes a pixel; one probe is as good as the other then
    monkeypatch.setattr(Need, "through", lambda *measured: Need(0, 1000))
    for room, pixels in ((130e6, 300 * 420), (110e6, 110_000)):
        monkeypatch.setattr(restore_module, "room_for", lambda *given, room=room: room)
        local.sizes.clear()
        tiled = restore(local, image, report=said.append)
        largest = max(height * width for height, width in local.sizes)
        assert largest <= pixels
        assert (largest == 300 * 420) == (room == 130e6)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=0 if room == 130e6 else 1 / 255)
    assert len(said) == 1


@pytest.mark.usefixtures("memory_is_measured")
def test_strips_of_an_image_that_surely_fits_are_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = glocal.localize(Gate(), 32)
    local.sizes.clear()
    monkeypatch.setattr(restore_module, "room_for", lambda *given: 300 * 420 * 8_000)
    restore(local, photo(3, 300, 420))
    restore(local, photo(3, 300, 420))
    assert local.sizes == [(256, 256), (300, 420), (300, 420)]


def test_an_unconverted_network_in_tiles_says_that_it_is_another_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore_module, "room_for", lambda *given: 70e6)
    monkeypatch.setattr(Need, "through", lambda *measured: Need(0, 1000))
    network, said = Gate(), []
    with pytest.warns(GlocalWarning, match="blended tiles of 256×256 are not the whole image's"):
        restore(network, photo(3, 300, 420), report=said.append)
    assert max(network.sizes[1:]) == (256, 256)


@pytest.mark.parametrize("local", [False, True])
def test_a_device_without_memory_is_left_for_the_cpu(local: bool) -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.device.type == "meta":  # stands for a GPU: there is none here
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return x

    image = photo(3, 400, 600)
    with pytest.warns(GlocalWarning, match="going on"):
        restored = restore(Picky(), image, device="meta", halo=8 if local else None)
    torch.testing.assert_close(restored, image)


def test_a_halo_is_pixels() -> None:
    with pytest.raises(ArgumentError, match="halo=-1"):
        restore(nn.Identity(), photo(3, 8, 8), halo=-1)
