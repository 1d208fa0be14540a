"""Recipes of official networks: where the authors' source is, and how to build it from there.

More than 300 lines: it is one table.

Nothing of the authors' code is here. A recipe works on a checkout of their repository that the
user has. Widths and depths are reduced where they do not change the structure; so is the crop.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from checkouts import folder_of, load
from torch import Tensor, nn

Inputs = Callable[[int, int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Recipe:
    """One network.

    Attributes:
        name: as in the paper.
        purpose: its task.
        repository: "owner/name" on GitHub.
        file: path below `root`.
        factory: class or function in the file.
        crop: side, or height and width, of the training crops in pixels; of the low-resolution
            ones for super-resolution; of the first stage if they grow.
        root: folder of the checkout from which the authors run their scripts.
        arguments: keyword arguments of the factory.
        options: attributes of an options object that is the first argument, if it takes one.
        image_channels: channels of the input.
        inputs: (height, width) → all arguments of forward, if not one image.
        largest: side in pixels to which larger crops are reduced, to be quick.
        training: the authors run it in train mode.
        local: class of the authors' own local version, which takes train_size.
        local_file: its file, if another.
        local_arguments: its keyword arguments, if others.
        local_leaves: module paths that it leaves global.
    """

    name: str
    purpose: str
    repository: str
    file: str
    factory: str
    crop: int | tuple[int, int]
    root: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] | None = None
    image_channels: int = 3
    inputs: Inputs | None = None
    largest: int = 128
    training: bool = False
    local: str = ""
    local_file: str = ""
    local_arguments: dict[str, Any] | None = None
    local_leaves: tuple[str, ...] = ()

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width of the crops to measure with."""
        height, width = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        return min(height, self.largest), min(width, self.largest)

    def build(self, checkouts: Path) -> nn.Module:
        """The network with its initial weights.

        Raises:
            FileNotFoundError: no checkout.
            ImportError: a package that the network needs, such as einops, is not installed.
        """
        network = self._make(checkouts, self.file, self.factory, self.arguments)
        return network.train(self.training)

    def build_local(self, checkouts: Path, weights: dict[str, Tensor]) -> nn.Module:
        """The authors' own local version, with these weights; after `build`."""
        arguments = self.arguments if self.local_arguments is None else self.local_arguments
        arguments = arguments | {"train_size": (1, self.image_channels, *self.train_size)}
        network = self._make(checkouts, self.local_file or self.file, self.local, arguments)
        network.load_state_dict(weights)
        return network.eval()

    def folder(self, checkouts: Path) -> Path:
        folder = folder_of(checkouts, self.repository)
        if folder is None:
            raise FileNotFoundError(f"no checkout of {self.repository} in {checkouts}")
        return folder

    def _make(
        self, checkouts: Path, file: str, factory: str, arguments: dict[str, Any]
    ) -> nn.Module:
        module = load(self.folder(checkouts) / self.root, file)
        first = () if self.options is None else (SimpleNamespace(**self.options),)
        network: nn.Module = getattr(module, factory)(*first, **arguments)
        return network


def image_of(channels: int) -> Inputs:
    """Arguments of forward: an image of so many channels."""
    return lambda height, width: (torch.rand(1, channels, height, width),)


def image_and(*shape: int, seed: int = 3) -> Inputs:
    """Arguments of forward: an image, and a tensor of this shape."""

    def inputs(height: int, width: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(1, 3, height, width), torch.rand(shape, generator=generator)

    return inputs


def with_map(channels: int) -> Inputs:
    """Arguments of forward: an image, and a map of its size."""

    def inputs(height: int, width: int) -> tuple[Tensor, ...]:
        return torch.rand(1, 3, height, width), torch.full((1, channels, height, width), 0.5)

    return inputs


INSTANCE_NORM = partial(nn.InstanceNorm2d, affine=False, track_running_stats=True)

EDSR = {"scale": [2], "rgb_range": 255, "n_colors": 3, "res_scale": 1}
"""Options of the code base of EDSR, which many build on."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "AdaIR",
        "several tasks",
        "c-yn/AdaIR",
        "net/model.py",
        "AdaIR",
        128,
        arguments={"num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
    ),
    Recipe(
        "ATD",
        "super-resolution",
        "LabShuHangGU/Adaptive-Token-Dictionary",
        "basicsr/archs/atd_arch.py",
        "ATD",
        64,
        arguments={
            "embed_dim": 48,
            "depths": (2, 2),
            "num_heads": (4, 4),
            "window_size": 16,
            "category_size": 128,
            "num_tokens": 32,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
        },
    ),
    Recipe(
        "Baseline",
        "deblurring",
        "megvii-research/NAFNet",
        "basicsr/models/archs/Baseline_arch.py",
        "Baseline",
        256,
        arguments={
            "width": 16,
            "enc_blk_nums": [1, 1, 1, 1],
            "dec_blk_nums": [1, 1, 1, 1],
            "middle_blk_num": 1,
        },
        local="BaselineLocal",
    ),
    Recipe(
        "CascadedGaze",
        "denoising",
        "Ascend-Research/CascadedGaze",
        "basicsr/models/archs/CGNet_arch.py",
        "CascadedGaze",
        256,
        arguments={
            "width": 16,
            "middle_blk_num": 1,
            "enc_blk_nums": [1, 1, 1, 1],
            "dec_blk_nums": [1, 1, 1, 1],
            "GCE_CONVS_nums": [3, 3, 2, 2],
        },
    ),
    Recipe(
        "CAT",
        "super-resolution",
        "zhengchen1999/CAT",
        "basicsr/archs/cat_arch.py",
        "CAT",
        64,
        arguments={
            "embed_dim": 60,
            "depth": [2, 2],
            "num_heads": [6, 6],
            "split_size_0": [4, 4],
            "split_size_1": [0, 0],
            "upsampler": "pixelshuffle",
        },
    ),
    Recipe(
        "CAT-Unet",
        "denoising",
        "zhengchen1999/CAT",
        "basicsr/models/archs/cat_unet_arch.py",
        "CAT_Unet",
        128,
        root="restormer",
        arguments={
            "img_size": 128,
            "dim": 16,
            "depth": [1, 1, 1, 1],
            "num_heads": [2, 2, 4, 8],
            "split_size_0": [4, 4, 4, 4],
            "split_size_1": [0, 0, 0, 0],
            "num_refinement_blocks": 1,
        },
    ),
    Recipe(
        "CBDNet",
        "denoising",
        "IDKiro/CBDNet-pytorch",
        "model/cbdnet.py",
        "Network",
        128,
    ),
    Recipe(
        "CFSNet",
        "several tasks",
        "qibao77/CFSNet",
        "models/modules/architecture.py",
        "CFSNet",
        48,
        arguments={
            "in_channel": 3,
            "out_channel": 3,
            "num_channels": 32,
            "num_main_blocks": 2,
            "num_tuning_blocks": 2,
            "upscale": 4,
        },
        inputs=image_and(1, 512),
    ),
    Recipe(
        "CODE",
        "several tasks",
        "XLearning-SCU/2023-CVPR-CODE",
        "model.py",
        "CODEFormer",
        128,
        arguments={"in_chans": 3, "embed_dim": 32, "refine_blocks": 1, "num_blocks": (1, 1, 1, 1)},
    ),
    Recipe(
        "ConvIR",
        "dehazing",
        "c-yn/ConvIR",
        "models/ConvIR.py",
        "ConvIR",
        256,
        root="Dehazing/ITS",
        arguments={"version": "small", "data": "ITS"},
        largest=256,  # it does not run at 128
    ),
    Recipe(
        "CRAFT",
        "super-resolution",
        "AVC2-UESTC/CRAFT-SR",
        "basicsr/archs/craft_arch.py",
        "CRAFT",
        64,
        arguments={
            "embed_dim": 48,
            "depths": (2, 2),
            "num_heads": (6, 6),
            "upsampler": "pixelshuffle",
        },
    ),
    Recipe(
        "CycleISP",
        "denoising",
        "swz30/CycleISP",
        "networks/denoising_rgb.py",
        "DenoiseNet",
        128,
    ),
    Recipe(
        "DAT",
        "super-resolution",
        "zhengchen1999/DAT",
        "basicsr/archs/dat_arch.py",
        "DAT",
        64,
        arguments={"embed_dim": 60, "split_size": [8, 32], "depth": [2, 2], "num_heads": [6, 6]},
    ),
    Recipe(
        "DEA-Net",
        "dehazing",
        "cecret3350/DEA-Net",
        "model/backbone.py",
        "Backbone",
        256,
        root="code",
        arguments={"base_dim": 16},
    ),
    Recipe(
        "DeamNet",
        "denoising",
        "chaoren88/DeamNet",
        "DeamNet.py",
        "Deam",
        128,
        arguments={"Isreal": False},
        image_channels=1,
    ),
    Recipe(
        "DeblurGAN-v2",
        "deblurring",
        "VITA-Group/DeblurGANv2",
        "models/fpn_mobilenet.py",
        "FPNMobileNet",
        256,
        arguments={"norm_layer": INSTANCE_NORM, "pretrained": False},
        training=True,
    ),
    Recipe(
        "DeepRFT",
        "deblurring",
        "INVOKERer/DeepRFT",
        "DeepRFT_MIMO.py",
        "DeepRFT",
        256,
        arguments={"num_res": 1},
    ),
    Recipe(
        "DehazeFormer",
        "dehazing",
        "IDKiro/DehazeFormer",
        "models/dehazeformer.py",
        "dehazeformer_t",
        256,
    ),
    Recipe(
        "DMPHN (encoder)",
        "deblurring",
        "HongguangZhang/DMPHN-cvpr19-master",
        "models.py",
        "Encoder",
        256,
    ),
    Recipe(
        "DRSformer",
        "deraining",
        "cschenxiang/DRSformer",
        "basicsr/models/archs/DRSformer_arch.py",
        "DRSformer",
        128,
        arguments={"dim": 16, "num_blocks": [1, 1, 1, 1]},
    ),
    Recipe(
        "EENet",
        "dehazing",
        "c-yn/EENet",
        "models/EENet.py",
        "MIMOUNet",
        256,
        root="ITS",
        arguments={"num_res": 1},
    ),
    Recipe(
        "EnlightenGAN",
        "low light",
        "VITA-Group/EnlightenGAN",
        "models/networks.py",
        "Unet_resize_conv",
        320,
        arguments={"skip": 1.0},
        options={
            "self_attention": True,
            "use_norm": 1,
            "syn_norm": False,
            "use_avgpool": 0,
            "tanh": False,
            "skip": 1.0,
            "times_residual": True,
            "linear_add": False,
            "latent_threshold": False,
            "latent_norm": False,
            "linear": False,
        },
        inputs=with_map(1),
    ),
    Recipe(
        "FFA-Net",
        "dehazing",
        "zhilin007/FFA-Net",
        "models/FFA.py",
        "FFA",
        240,
        root="net",
        arguments={"gps": 3, "blocks": 1},
    ),
    Recipe(
        "FFTformer",
        "deblurring",
        "kkkls/FFTformer",
        "basicsr/models/archs/fftformer_arch.py",
        "fftformer",
        256,
        arguments={"dim": 16, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1},
    ),
    Recipe(
        "FSNet",
        "deblurring",
        "c-yn/FSNet",
        "models/FSNet.py",
        "FSNet",
        256,
        root="Motion_deblurring",
        arguments={"num_res": 4},
    ),
    Recipe(
        "GCANet",
        "dehazing",
        "cddlyf/GCANet",
        "GCANet.py",
        "GCANet",
        256,
        arguments={"in_c": 4},
        image_channels=4,
    ),
    Recipe(
        "GridDehazeNet",
        "dehazing",
        "IDKiro/gUNet",
        "models/baselines/griddehazenet/network.py",
        "GridDehazeNet",
        240,
    ),
    Recipe(
        "GRL",
        "super-resolution",
        "ofsoundof/GRL-Image-Restoration",
        "models/networks/grl.py",
        "GRL",
        64,
        arguments={
            "embed_dim": 32,
            "upscale": 4,
            "upsampler": "pixelshuffledirect",
            "depths": [2, 2],
            "num_heads_window": [2, 2],
            "num_heads_stripe": [2, 2],
            "window_size": 16,
            "stripe_size": [64, 64],
            "stripe_shift": True,
            "anchor_window_down_factor": 2,
            "local_connection": True,
        },
    ),
    Recipe(
        "gUNet",
        "dehazing",
        "IDKiro/gUNet",
        "models/gunet.py",
        "gunet_t",
        256,
    ),
    Recipe(
        "HAN",
        "super-resolution",
        "wwlCape/HAN",
        "model/han.py",
        "HAN",
        48,
        root="src",
        options=EDSR | {"n_resgroups": 10, "n_resblocks": 1, "n_feats": 64, "reduction": 16},
    ),
    Recipe(
        "HAT",
        "super-resolution",
        "XPixelGroup/HAT",
        "hat/archs/hat_arch.py",
        "HAT",
        64,
        arguments={
            "embed_dim": 60,
            "depths": (2, 2),
            "num_heads": (6, 6),
            "window_size": 16,
            "upscale": 4,
            "upsampler": "pixelshuffle",
        },
    ),
    Recipe(
        "HINet",
        "deblurring",
        "megvii-model/HINet",
        "basicsr/models/archs/hinet_arch.py",
        "HINet",
        256,
        arguments={"wf": 16, "depth": 4},
    ),
    Recipe(
        "HINet (TLC)",
        "deblurring",
        "megvii-research/TLC",
        "basicsr/models/archs/hinet_arch.py",
        "HINet",
        256,
        arguments={"wf": 16, "depth": 4},
        local="HINetLocal",
        local_file="basicsr/models/archs/local_arch.py",
        largest=256,  # its local version takes no other
    ),
    Recipe(
        "Histoformer",
        "several tasks",
        "sunshangquan/Histoformer",
        "basicsr/models/archs/histoformer_arch.py",
        "Histoformer",
        128,
        arguments={
            "dim": 48,
            "ffn_expansion_factor": 2.667,
            "num_blocks": [1, 1, 1, 1],
            "num_refinement_blocks": 1,
        },
    ),
    Recipe(
        "HVI-CIDNet",
        "low light",
        "Fediory/HVI-CIDNet",
        "net/CIDNet.py",
        "CIDNet",
        256,
        arguments={"channels": [12, 12, 24, 48], "heads": [1, 2, 4, 8]},
    ),
    Recipe(
        "IAT",
        "low light",
        "cuiziteng/Illumination-Adaptive-Transformer",
        "model/IAT_main.py",
        "IAT",
        256,
        root="IAT_enhance",
    ),
    Recipe(
        "IMDN",
        "super-resolution",
        "Zheng222/IMDN",
        "model/architecture.py",
        "IMDN",
        48,
        arguments={"nf": 32, "num_modules": 6},
    ),
    Recipe(
        "InstructIR",
        "several tasks",
        "mv-lab/InstructIR",
        "models/instructir.py",
        "create_model",
        256,
        arguments={
            "width": 16,
            "enc_blks": [1, 1, 1, 1],
            "middle_blk_num": 1,
            "dec_blks": [1, 1, 1, 1],
            "txtdim": 64,
        },
        inputs=image_and(1, 64),
    ),
    Recipe(
        "IRNeXt",
        "dehazing",
        "c-yn/IRNeXt",
        "models/IRNeXt.py",
        "IRNeXt",
        256,
        root="Dehazing/ITS",
        arguments={"num_res": 1},
    ),
    Recipe(
        "KBNet_l",
        "deraining",
        "zhangyi-3/KBNet",
        "basicsr/models/archs/kbnet_l_arch.py",
        "KBNet_l",
        128,
        arguments={"dim": 48, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
    ),
    Recipe(
        "KBNet_s",
        "denoising",
        "zhangyi-3/KBNet",
        "basicsr/models/archs/kbnet_s_arch.py",
        "KBNet_s",
        256,
        arguments={
            "width": 16,
            "middle_blk_num": 1,
            "enc_blk_nums": [1, 1, 1, 1],
            "dec_blk_nums": [1, 1, 1, 1],
        },
    ),
    Recipe(
        "LEDNet",
        "low light",
        "sczhou/LEDNet",
        "basicsr/archs/lednet_arch.py",
        "LEDNet",
        256,
        arguments={"channels": [16, 16, 32, 32]},
    ),
    Recipe(
        "LLFormer",
        "low light",
        "TaoWangzj/LLFormer",
        "model/LLFormer.py",
        "LLFormer",
        128,
        arguments={"num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
    ),
    Recipe(
        "M3SNet",
        "deblurring",
        "Tombs98/M3SNet",
        "M3SNet.py",
        "M3SNet",
        256,
        root="Deblur",
        arguments={"width": 16, "enc_blk_nums": [1, 1, 1, 2]},
        local="M3SNetLocal",
        local_leaves=("middle_blks.0",),  # its transposed attention
    ),
    Recipe(
        "MAXIM",
        "several tasks",
        "vztu/maxim-pytorch",
        "maxim_torch.py",
        "MAXIM_dns_3s",
        256,
        root="maxim_pytorch",
        arguments={"features": 8, "num_supervision_scales": 3},
    ),
    Recipe(
        "MIMO-UNet",
        "deblurring",
        "chosj95/MIMO-UNet",
        "models/MIMOUNet.py",
        "MIMOUNet",
        256,
        arguments={"num_res": 1},
    ),
    Recipe(
        "MIRNet",
        "denoising",
        "swz30/MIRNet",
        "networks/MIRNet_model.py",
        "MIRNet",
        128,
        arguments={"n_feat": 32, "n_RRG": 1, "n_MSRB": 1},
    ),
    Recipe(
        "MIRNet-v2",
        "several tasks",
        "swz30/MIRNetv2",
        "basicsr/models/archs/mirnet_v2_arch.py",
        "MIRNet_v2",
        128,
        arguments={"n_feat": 80, "n_RRG": 1, "n_MRB": 1},
    ),
    Recipe(
        "MixDehazeNet",
        "dehazing",
        "AmeryXiong/MixDehazeNet",
        "models/MixDehazeNet.py",
        "MixDehazeNet_t",
        256,
    ),
    Recipe(
        "MoCE-IR",
        "several tasks",
        "eduardzamfir/MoCE-IR",
        "src/net/moce_ir.py",
        "MoCEIR",
        128,
    ),
    Recipe(
        "MPRNet",
        "deblurring",
        "swz30/MPRNet",
        "MPRNet.py",
        "MPRNet",
        256,
        root="Deblurring",
        arguments={"n_feat": 16, "scale_unetfeats": 8, "scale_orsnetfeats": 8, "num_cab": 2},
    ),
    Recipe(
        "MPRNet (TLC)",
        "deblurring",
        "megvii-research/TLC",
        "basicsr/models/archs/mprnet_arch.py",
        "MPRNet",
        256,
        arguments={"n_feat": 16, "scale_unetfeats": 8, "scale_orsnetfeats": 8, "num_cab": 2},
        local="MPRNetLocal",
        local_file="basicsr/models/archs/local_arch.py",
        largest=256,  # its local version takes no other
    ),
    Recipe(
        "MSBDN",
        "dehazing",
        "BookerDeWitt/MSBDN-DFF",
        "networks/MSBDN-RDFF.py",
        "Net",
        256,
        arguments={"res_blocks": 2},
    ),
    Recipe(
        "MUNIT",
        "image translation",
        "NVlabs/MUNIT",
        "networks.py",
        "AdaINGen",
        256,
        arguments={
            "input_dim": 3,
            "params": {
                "dim": 16,
                "style_dim": 8,
                "n_downsample": 2,
                "n_res": 1,
                "activ": "relu",
                "pad_type": "reflect",
                "mlp_dim": 64,
            },
        },
    ),
    Recipe(
        "NAFNet",
        "deblurring",
        "megvii-research/NAFNet",
        "basicsr/models/archs/NAFNet_arch.py",
        "NAFNet",
        256,
        arguments={
            "width": 16,
            "enc_blk_nums": [1, 1, 1, 1],
            "dec_blk_nums": [1, 1, 1, 1],
            "middle_blk_num": 1,
        },
        local="NAFNetLocal",
    ),
    Recipe(
        "NAFSSR",
        "stereo super-resolution",
        "megvii-research/NAFNet",
        "basicsr/models/archs/NAFSSR_arch.py",
        "NAFNetSR",
        (30, 90),
        arguments={
            "up_scale": 4,
            "width": 16,
            "num_blks": 2,
            "fusion_from": -1,
            "fusion_to": 1000,
            "dual": True,
        },
        image_channels=6,
        inputs=image_of(6),
        local="NAFSSR",
        local_arguments={"up_scale": 4, "width": 16, "num_blks": 2},
    ),
    Recipe(
        "OKNet",
        "dehazing",
        "c-yn/OKNet",
        "models/OKNet.py",
        "OKNet",
        256,
        root="Dehazing/ITS",
        arguments={"num_res": 1},
    ),
    Recipe(
        "OmniSR",
        "super-resolution",
        "Francis0625/Omni-SR",
        "components/OmniSR.py",
        "OmniSR",
        64,
        arguments={
            "num_feat": 32,
            "upsampling": 2,
            "res_num": 1,
            "block_num": 1,
            "window_size": 8,
            "bias": True,
            "pe": True,
            "ffn_bias": True,
            "block_script_name": "OSA",
            "block_class_name": "OSA_Block",
        },
    ),
    Recipe(
        "PReNet",
        "deraining",
        "csdwren/PReNet",
        "networks.py",
        "PReNet",
        100,
        arguments={"recurrent_iter": 2, "use_GPU": False},
    ),
    Recipe(
        "PromptIR",
        "several tasks",
        "va1shn9v/PromptIR",
        "net/model.py",
        "PromptIR",
        128,
        arguments={"num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "decoder": True},
    ),
    Recipe(
        "RCAN",
        "super-resolution",
        "yulunzhang/RCAN",
        "model/rcan.py",
        "RCAN",
        48,
        root="RCAN_TrainCode/code",
        options=EDSR | {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 32, "reduction": 16},
    ),
    Recipe(
        "RCDNet",
        "deraining",
        "hongwang01/RCDNet",
        "model/rcdnet.py",
        "Mainnet",
        64,
        root="RCDNet_code/for_syn/src",
        options={"stage": 3, "num_M": 32, "num_Z": 32, "T": 1},
    ),
    Recipe(
        "Real-ESRGAN",
        "super-resolution",
        "xinntao/Real-ESRGAN",
        "realesrgan/archs/srvgg_arch.py",
        "SRVGGNetCompact",
        64,
        arguments={"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_conv": 4},
    ),
    Recipe(
        "Restormer",
        "several tasks",
        "swz30/Restormer",
        "basicsr/models/archs/restormer_arch.py",
        "Restormer",
        128,
        arguments={"dim": 16, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
    ),
    Recipe(
        "Restormer (TLC)",
        "deblurring",
        "megvii-research/TLC",
        "basicsr/models/archs/restormer_arch.py",
        "Restormer",
        256,
        arguments={"dim": 16, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
        local="RestormerLocal",
    ),
    Recipe(
        "Retinexformer",
        "low light",
        "caiyuanhao1998/Retinexformer",
        "basicsr/models/archs/RetinexFormer_arch.py",
        "RetinexFormer",
        128,
        arguments={"n_feat": 16, "stage": 1},
    ),
    Recipe(
        "RFDN",
        "super-resolution",
        "njulj/RFDN",
        "RFDN.py",
        "RFDN",
        64,
        arguments={"nf": 32},
    ),
    Recipe(
        "RGT",
        "super-resolution",
        "zhengchen1999/RGT",
        "basicsr/archs/rgt_arch.py",
        "RGT",
        64,
        arguments={"embed_dim": 60, "depth": [4, 4], "num_heads": [6, 6], "split_size": [8, 32]},
    ),
    Recipe(
        "RIDNet",
        "denoising",
        "saeed-anwar/RIDNet",
        "model/ridnet.py",
        "RIDNET",
        80,
        root="TestCode/code",
        options=EDSR | {"n_feats": 32, "reduction": 16},
    ),
    Recipe(
        "RRDBNet",
        "super-resolution",
        "sczhou/CodeFormer",
        "basicsr/archs/rrdbnet_arch.py",
        "RRDBNet",
        64,
        arguments={
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 16,
            "num_block": 1,
            "num_grow_ch": 8,
        },
    ),
    Recipe(
        "SAN",
        "super-resolution",
        "daitao/SAN",
        "model/san.py",
        "SAN",
        48,
        root="TrainCode",
        options=EDSR | {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 32, "reduction": 16},
    ),
    Recipe(
        "SFNet",
        "deblurring",
        "c-yn/SFNet",
        "models/SFNet.py",
        "SFNet",
        256,
        root="Motion_deblurring",
        arguments={"mode": ["train", "GOPRO"], "num_res": 1},
    ),
    Recipe(
        "SNR-Aware",
        "low light",
        "dvlab-research/SNR-Aware-Low-Light-Enhance",
        "models/archs/low_light_transformer.py",
        "low_light_transformer",
        256,
        arguments={"nf": 64, "front_RBs": 1, "back_RBs": 1, "HR_in": True},
        inputs=with_map(1),
    ),
    Recipe(
        "SPDNet",
        "deraining",
        "Joyies/SPDNet",
        "model/spdnet.py",
        "Rainnet",
        128,
        root="src",
        options={"n_feats": 32, "n_resblocks": 1},
    ),
    Recipe(
        "Stripformer",
        "deblurring",
        "pp00704831/Stripformer-ECCV-2022-",
        "models/Stripformer.py",
        "Stripformer",
        256,
    ),
    Recipe(
        "SwinIR",
        "super-resolution",
        "JingyunLiang/SwinIR",
        "models/network_swinir.py",
        "SwinIR",
        64,
        arguments={
            "embed_dim": 60,
            "depths": [2, 2],
            "num_heads": [6, 6],
            "window_size": 8,
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    Recipe(
        "Uformer",
        "several tasks",
        "ZhendongWang6/Uformer",
        "model.py",
        "Uformer",
        128,
        arguments={"img_size": 128, "embed_dim": 16, "depths": [1, 1, 1, 1, 1, 1, 1, 1, 1]},
    ),
    Recipe(
        "X-Restormer",
        "several tasks",
        "Andrew0613/X-Restormer",
        "xrestormer/archs/xrestormer_arch.py",
        "XRestormer",
        256,
        arguments={"dim": 16, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
    ),
    Recipe(
        "Zero-DCE",
        "low light",
        "Li-Chongyi/Zero-DCE",
        "model.py",
        "enhance_net_nopool",
        512,
        root="Zero-DCE_code",
    ),
)
