"""Networks of the table: constructors and crop sizes.

More than 300 lines: it is one table.

They have fewer blocks and channels than published, and the same structure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

UNKNOWN = 64

Inputs = Callable[[int, int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        architecture: id in spandrel's registries; two cases share one where a loader builds
            networks of different structure.
        name: class name in the architecture's package.
        purpose: its task.
        crop: side of the training crops in pixels, of the low-resolution ones for
            super-resolution; of the first stage if they grow; or `UNKNOWN`.
        source: where the crop size is stated; empty if unknown.
        image_channels: channels of the input.
        inputs: (height, width) → all arguments of forward, if not one image.
        arguments: constructor arguments.
    """

    architecture: str
    name: str
    purpose: str
    crop: int
    source: str
    image_channels: int
    inputs: Inputs | None
    arguments: dict[str, Any]

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width of the training crops."""
        return self.crop, self.crop

    def build(self) -> nn.Module:
        """The network with its initial weights, in eval mode."""
        import spandrel
        import spandrel_extra_arches

        registry = spandrel.ArchRegistry()
        registry.add(*spandrel.MAIN_REGISTRY, *spandrel_extra_arches.EXTRA_REGISTRY)
        loader = next(s.architecture for s in registry if s.architecture.id == self.architecture)
        package = __import__(type(loader).__module__, fromlist=[self.name])
        network: nn.Module = getattr(package, self.name)(**self.arguments)
        return network.eval()


def case(
    architecture: str,
    name: str,
    purpose: str,
    crop: int = UNKNOWN,
    source: str = "",
    *,
    image_channels: int = 3,
    inputs: Inputs | None = None,
    **arguments: Any,
) -> Case:
    return Case(architecture, name, purpose, crop, source, image_channels, inputs, arguments)


def masked(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image and the mask of its missing parts."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., : height // 4, : width // 3] = 1
    return torch.rand(1, 3, height, width), mask


CASES: tuple[Case, ...] = (
    case(
        "ATD",
        "ATD",
        "super-resolution",
        64,
        "training options",
        embed_dim=48,
        depths=(2, 2),
        num_heads=(4, 4),
        window_size=16,
        category_size=128,
        num_tokens=32,
        upscale=2,
        upsampler="pixelshuffledirect",
    ),
    case(
        "AdaCode",
        "AdaCode",
        "super-resolution",
        LQ_stage=True,
        scale_factor=4,
        codebook_params=[[32, 32, 64], [32, 64, 64]],
    ),
    case(
        "AuraSR",
        "AuraSR",
        "super-resolution",
        64,
        "model configuration",
        dim=16,
        image_size=256,
        input_image_size=None,
        skip_connect_scale=0.4,
        style_network={"dim_in": 128, "dim_out": 512, "depth": 4},
    ),
    case(
        "CRAFT",
        "CRAFT",
        "super-resolution",
        64,
        "training options",
        depths=(2, 2),
        num_heads=(6, 6),
    ),
    case("CodeFormer", "CodeFormer", "faces", 512, "paper", n_layers=2),
    case("Compact", "Compact", "super-resolution", 64, "training options", num_conv=4),
    case(
        "DAT",
        "DAT",
        "super-resolution",
        64,
        "training options",
        embed_dim=60,
        split_size=[8, 32],
        depth=[2, 2],
        num_heads=[6, 6],
    ),
    case("DCTLSA", "DCTLSA", "super-resolution", nf=30),
    case(
        "DDColor",
        "DDColor",
        "colorization",
        256,
        "training options",
        encoder_name="convnext-t",
        nf=512,
        num_queries=16,
        dec_layers=3,
    ),
    case("DITN", "DITN", "super-resolution", ITL_blocks=1, SAL_blocks=1),
    case(
        "DRCT",
        "DRCT",
        "super-resolution",
        64,
        "training options",
        embed_dim=60,
        depths=(6, 6),
        num_heads=(6, 6),
        upscale=4,
        upsampler="pixelshuffle",
    ),
    case(
        "DRUNet",
        "DRUNet",
        "denoising",
        128,
        "paper",
        image_channels=4,
        in_nc=4,
        out_nc=3,
        nc=[16, 32, 64, 128],
        nb=2,
    ),
    case("DnCNN", "DnCNN", "denoising", 40, "paper", in_nc=3, out_nc=3, nb=5),
    case("ESRGAN", "ESRGAN", "super-resolution", 32, "paper", num_filters=16, num_blocks=2),
    case("FBCNN", "FBCNN", "JPEG artifacts", 96, "training options", nc=[16, 32, 64, 512], nb=1),
    case("FDAT", "FDAT", "super-resolution", embed_dim=48, num_groups=2, depth_per_group=2),
    case(
        "FFTformer",
        "FFTformer",
        "deblurring",
        256,
        "training options",
        dim=16,
        num_blocks=[1, 1, 2],
        num_refinement_blocks=1,
    ),
    case(
        "FeMaSR",
        "FeMaSR",
        "super-resolution",
        64,
        "training options",
        LQ_stage=True,
        scale_factor=4,
        codebook_params=[[32, 64, 64]],
    ),
    case(
        "GFPGAN",
        "GFPGAN",
        "faces",
        512,
        "paper",
        channel_multiplier=1,
        narrow=0.25,
        num_style_feat=512,
    ),
    case(
        "GRL",
        "GRL",
        "super-resolution",
        64,
        "training options",
        embed_dim=32,
        upscale=4,
        upsampler="pixelshuffledirect",
        depths=[2, 2],
        num_heads_window=[2, 2],
        num_heads_stripe=[2, 2],
        window_size=16,
        stripe_size=[64, 64],
        stripe_shift=True,
        anchor_window_down_factor=2,
        local_connection=True,
    ),
    case(
        "HAT",
        "HAT",
        "super-resolution",
        64,
        "training options",
        embed_dim=60,
        depths=(2, 2),
        num_heads=(6, 6),
        window_size=16,
        upscale=4,
    ),
    case(
        "HVICIDNet",
        "HVICIDNet",
        "low light",
        256,
        "training options",
        channels=[12, 12, 24, 48],
        heads=[1, 2, 4, 8],
    ),
    case("IPT", "IPT", "several tasks", 48, "paper", n_feats=16, num_heads=4, num_layers=2),
    case(
        "KBNet",
        "KBNet_l",
        "deraining",
        128,
        "training options",
        dim=48,
        num_blocks=[1, 1, 1, 1],
        num_refinement_blocks=1,
    ),
    case(
        "KBNet",
        "KBNet_s",
        "denoising",
        256,
        "training options",
        width=16,
        middle_blk_num=1,
        enc_blk_nums=[1, 1, 1, 1],
        dec_blk_nums=[1, 1, 1, 1],
    ),
    case("LaMa", "LaMa", "inpainting", 256, "paper", inputs=masked, in_nc=4),
    case("M3SNet", "M3SNet", "deblurring", 256, "paper", width=16, enc_blk_nums=[1, 1, 1, 2]),
    case("MAT", "MAT", "inpainting", 512, "paper", inputs=masked),
    case("MIRNet2", "MIRNet2", "several tasks", 128, "training options", n_feat=80, n_MRB=1),
    case(
        "MMRealSR",
        "MMRealSR",
        "super-resolution",
        64,
        "training options",
        num_in_ch=3,
        num_out_ch=3,
        num_feat=32,
        num_block=2,
        num_grow_ch=16,
        num_feats=[32, 64, 64, 64],
        num_blocks=[1, 1, 1, 1],
    ),
    case(
        "MPRNet",
        "MPRNet",
        "deblurring",
        256,
        "paper",
        n_feat=16,
        scale_unetfeats=8,
        scale_orsnetfeats=8,
        num_cab=2,
    ),
    case("MixDehazeNet", "MixDehazeNet", "dehazing", 256, "training options"),
    case("MoESR", "MoESR", "super-resolution", dim=32, n_blocks=2, n_block=2),
    case("MoSR", "MoSR", "super-resolution", n_block=4, dim=32),
    case(
        "NAFNet",
        "NAFNet",
        "deblurring",
        256,
        "paper",
        enc_blk_nums=[1, 1, 1, 1],
        dec_blk_nums=[1, 1, 1, 1],
    ),
    case("OmniSR", "OmniSR", "super-resolution", 64, "training options", res_num=2),
    case("PLKSR", "PLKSR", "super-resolution", n_blocks=3),
    case("PLKSR", "RealPLKSR", "super-resolution", n_blocks=3),
    case("RCAN", "RCAN", "super-resolution", 48, "paper", n_resgroups=2, n_resblocks=2, n_feats=32),
    case(
        "RGT",
        "RGT",
        "super-resolution",
        64,
        "training options",
        embed_dim=60,
        depth=[4, 4],
        num_heads=[6, 6],
        split_size=[8, 32],
    ),
    case("RealCUGAN", "UpCunet2x", "super-resolution"),
    case("RealCUGAN", "UpCunet2x_fast", "super-resolution"),
    case("RealCUGAN", "UpCunet3x", "super-resolution"),
    case("RealCUGAN", "UpCunet4x", "super-resolution"),
    case(
        "RestoreFormer", "RestoreFormer", "faces", 512, "paper", n_embed=64, ch=32, num_res_blocks=1
    ),
    case(
        "Restormer",
        "Restormer",
        "several tasks",
        128,
        "training options",
        dim=16,
        num_blocks=[1, 1, 1, 1],
        num_refinement_blocks=1,
    ),
    case(
        "RetinexFormer", "RetinexFormer", "low light", 128, "training options", n_feat=16, stage=2
    ),
    case("SAFMN", "SAFMN", "super-resolution", 64, "training options", dim=36, n_blocks=2),
    case("SAFMNBCIE", "SAFMNBCIE", "JPEG artifacts", dim=36, n_blocks=2, num_layers=2),
    case("SCUNet", "SCUNet", "denoising", config=[2, 2, 2, 2, 2, 2, 2]),
    case("SPAN", "SPAN", "super-resolution", 64, "paper", num_in_ch=3, num_out_ch=3),
    case(
        "SRFormer",
        "SRFormer",
        "super-resolution",
        48,
        "paper",
        embed_dim=60,
        depths=(2, 2),
        num_heads=(6, 6),
        window_size=24,
        upscale=2,
        upsampler="pixelshuffledirect",
        img_size=48,
    ),
    case("SeemoRe", "SeemoRe", "super-resolution", 64, "training options", num_layers=2),
    case("SwiftSRGAN", "SwiftSRGAN", "super-resolution", num_blocks=2),
    case(
        "Swin2SR",
        "Swin2SR",
        "super-resolution",
        embed_dim=60,
        depths=[2, 2],
        num_heads=[6, 6],
        window_size=8,
        upsampler="pixelshuffle",
    ),
    case(
        "SwinIR",
        "SwinIR",
        "super-resolution",
        64,
        "training options",
        embed_dim=60,
        depths=[2, 2],
        num_heads=[6, 6],
        window_size=8,
        upscale=2,
        upsampler="pixelshuffle",
    ),
    case(
        "Uformer",
        "Uformer",
        "several tasks",
        128,
        "training options",
        img_size=128,
        embed_dim=16,
        depths=[1] * 9,
        dd_in=3,
    ),
)
