"""State-dict keys and shapes of the published networks, from their structure."""

from collections.abc import Sequence

Shapes = dict[str, tuple[int, ...]]


def nafnet_shapes(
    *,
    img_channel: int = 3,
    width: int = 16,
    middle_blk_num: int = 1,
    enc_blk_nums: Sequence[int] = (),
    dec_blk_nums: Sequence[int] = (),
) -> Shapes:
    def block(key: str, c: int) -> Shapes:
        return {
            f"{key}.beta": (1, c, 1, 1),
            f"{key}.gamma": (1, c, 1, 1),
            **_conv(f"{key}.conv1", c, 2 * c, 1),
            **_conv(f"{key}.conv2", 1, 2 * c, 3),
            **_conv(f"{key}.conv3", c, c, 1),
            **_conv(f"{key}.sca.1", c, c, 1),
            **_conv(f"{key}.conv4", c, 2 * c, 1),
            **_conv(f"{key}.conv5", c, c, 1),
            **_norm(f"{key}.norm1", c),
            **_norm(f"{key}.norm2", c),
        }

    return _plain_unet(img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums, block)


def baseline_shapes(
    *,
    img_channel: int = 3,
    width: int = 16,
    middle_blk_num: int = 1,
    enc_blk_nums: Sequence[int] = (),
    dec_blk_nums: Sequence[int] = (),
    dw_expand: int = 1,
    ffn_expand: int = 2,
) -> Shapes:
    def block(key: str, c: int) -> Shapes:
        wide, hidden = c * dw_expand, c * ffn_expand
        return {
            f"{key}.beta": (1, c, 1, 1),
            f"{key}.gamma": (1, c, 1, 1),
            **_conv(f"{key}.conv1", c, wide, 1),
            **_conv(f"{key}.conv2", 1, wide, 3),
            **_conv(f"{key}.conv3", wide, c, 1),
            **_conv(f"{key}.se.1", wide, wide // 2, 1),
            **_conv(f"{key}.se.3", wide // 2, wide, 1),
            **_conv(f"{key}.conv4", c, hidden, 1),
            **_conv(f"{key}.conv5", hidden, c, 1),
            **_norm(f"{key}.norm1", c),
            **_norm(f"{key}.norm2", c),
        }

    return _plain_unet(img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums, block)


def hinet_shapes(
    *,
    in_chn: int = 3,
    wf: int = 64,
    depth: int = 5,
    hin_position_left: int = 0,
    hin_position_right: int = 4,
) -> Shapes:
    def block(key: str, cin: int, cout: int, normed: bool) -> Shapes:
        return {
            **_conv(f"{key}.identity", cin, cout, 1),
            **_conv(f"{key}.conv_1", cin, cout, 3),
            **_conv(f"{key}.conv_2", cout, cout, 3),
            **(_norm(f"{key}.norm", cout // 2) if normed else {}),
        }

    shapes = {**_conv("conv_01", in_chn, wf, 3), **_conv("conv_02", in_chn, wf, 3)}
    for stage in (1, 2):
        for i in range(depth):
            key, c = f"down_path_{stage}.{i}", wf * 2**i
            normed = hin_position_left <= i <= hin_position_right
            shapes |= block(key, c if i == 0 else c // 2, c, normed)
            if i < depth - 1:
                shapes |= _conv(f"{key}.downsample", c, c, 4, bias=False)
                if stage == 2:
                    shapes |= _conv(f"{key}.csff_enc", c, c, 3) | _conv(f"{key}.csff_dec", c, c, 3)
        for i, level in enumerate(reversed(range(depth - 1))):
            key, c = f"up_path_{stage}.{i}", wf * 2**level
            shapes |= {f"{key}.up.weight": (2 * c, c, 2, 2), f"{key}.up.bias": (c,)}
            shapes |= block(f"{key}.conv_block", 2 * c, c, False)
            shapes |= _conv(f"skip_conv_{stage}.{i}", c, c, 3)
    shapes |= _supervised("sam12", wf, 3, bias=True)
    return shapes | _conv("cat12", 2 * wf, wf, 1) | _conv("last", wf, in_chn, 3)


def mprnet_shapes(
    *,
    in_c: int = 3,
    out_c: int = 3,
    n_feat: int = 96,
    scale_unetfeats: int = 48,
    scale_orsnetfeats: int = 32,
    num_cab: int = 8,
    kernel_size: int = 3,
    reduction: int = 4,
    bias: bool = False,
) -> Shapes:
    level = [n_feat + i * scale_unetfeats for i in range(3)]
    full = n_feat + scale_orsnetfeats

    def block(key: str, c: int) -> Shapes:
        return {
            **_conv(f"{key}.CA.conv_du.0", c, c // reduction, 1, bias),
            **_conv(f"{key}.CA.conv_du.2", c // reduction, c, 1, bias),
            **_conv(f"{key}.body.0", c, c, kernel_size, bias),
            f"{key}.body.1.weight": (1,),
            **_conv(f"{key}.body.2", c, c, kernel_size, bias),
        }

    shapes: Shapes = {}
    for stage in (1, 2, 3):
        shapes |= _conv(f"shallow_feat{stage}.0", in_c, n_feat, kernel_size, bias)
        shapes |= block(f"shallow_feat{stage}.1", n_feat)
    for stage in (1, 2):
        encoder, decoder = f"stage{stage}_encoder", f"stage{stage}_decoder"
        for i, c in enumerate(level, start=1):
            for j in range(2):
                shapes |= block(f"{encoder}.encoder_level{i}.{j}", c)
                shapes |= block(f"{decoder}.decoder_level{i}.{j}", c)
            if stage == 2:
                shapes |= _conv(f"{encoder}.csff_enc{i}", c, c, 1, bias)
                shapes |= _conv(f"{encoder}.csff_dec{i}", c, c, 1, bias)
        for i in (1, 2):
            fine, coarse = level[i - 1], level[i]
            shapes |= _conv(f"{encoder}.down{i}{i + 1}.down.1", fine, coarse, 1, bias=False)
            shapes |= _conv(f"{decoder}.up{i + 1}{i}.up.1", coarse, fine, 1, bias=False)
            shapes |= block(f"{decoder}.skip_attn{i}", fine)
    for i in (1, 2, 3):
        key = f"stage3_orsnet.orb{i}.body"
        for j in range(num_cab):
            shapes |= block(f"{key}.{j}", full)
        shapes |= _conv(f"{key}.{num_cab}", full, full, kernel_size, bias=False)
    for kind in ("enc", "dec"):
        up = f"stage3_orsnet.up_{kind}"
        shapes |= _conv(f"{up}1.up.1", level[1], level[0], 1, bias=False)
        shapes |= _conv(f"{up}2.0.up.1", level[2], level[1], 1, bias=False)
        shapes |= _conv(f"{up}2.1.up.1", level[1], level[0], 1, bias=False)
        for i in (1, 2, 3):
            shapes |= _conv(f"stage3_orsnet.conv_{kind}{i}", n_feat, full, 1, bias)
    shapes |= _supervised("sam12", n_feat, 1, bias) | _supervised("sam23", n_feat, 1, bias)
    shapes |= _conv("concat12", 2 * n_feat, n_feat, kernel_size, bias)
    shapes |= _conv("concat23", 2 * n_feat, full, kernel_size, bias)
    return shapes | _conv("tail", full, out_c, kernel_size, bias)


def restormer_shapes(
    *,
    inp_channels: int = 3,
    out_channels: int = 3,
    dim: int = 48,
    num_blocks: Sequence[int] = (4, 6, 6, 8),
    num_refinement_blocks: int = 4,
    heads: Sequence[int] = (1, 2, 4, 8),
    ffn_expansion_factor: float = 2.66,
    bias: bool = False,
    LayerNorm_type: str = "WithBias",
    dual_pixel_task: bool = False,
) -> Shapes:
    def blocks(key: str, c: int, head_count: int, count: int) -> Shapes:
        hidden = int(c * ffn_expansion_factor)
        shapes: Shapes = {}
        for i in range(count):
            at = f"{key}.{i}"
            shapes[f"{at}.attn.temperature"] = (head_count, 1, 1)
            shapes |= _conv(f"{at}.attn.qkv", c, 3 * c, 1, bias)
            shapes |= _conv(f"{at}.attn.qkv_dwconv", 1, 3 * c, 3, bias)
            shapes |= _conv(f"{at}.attn.project_out", c, c, 1, bias)
            shapes |= _conv(f"{at}.ffn.project_in", c, 2 * hidden, 1, bias)
            shapes |= _conv(f"{at}.ffn.dwconv", 1, 2 * hidden, 3, bias)
            shapes |= _conv(f"{at}.ffn.project_out", hidden, c, 1, bias)
            for n in (1, 2):
                norm = _norm(f"{at}.norm{n}.body", c)
                if LayerNorm_type == "BiasFree":
                    del norm[f"{at}.norm{n}.body.bias"]
                shapes |= norm
        return shapes

    shapes = _conv("patch_embed.proj", inp_channels, dim, 3, bias=False)
    for i in range(3):
        c = dim * 2**i
        shapes |= blocks(f"encoder_level{i + 1}", c, heads[i], num_blocks[i])
        shapes |= _conv(f"down{i + 1}_{i + 2}.body.0", c, c // 2, 3, bias=False)
        shapes |= _conv(f"up{i + 2}_{i + 1}.body.0", 2 * c, 4 * c, 3, bias=False)
        if i > 0:
            shapes |= _conv(f"reduce_chan_level{i + 1}", 2 * c, c, 1, bias)
        # the decoder of the largest map has the width of the concatenated maps
        shapes |= blocks(f"decoder_level{i + 1}", max(c, 2 * dim), heads[i], num_blocks[i])
    shapes |= blocks("latent", 8 * dim, heads[3], num_blocks[3])
    shapes |= blocks("refinement", 2 * dim, heads[0], num_refinement_blocks)
    if dual_pixel_task:
        shapes |= _conv("skip_conv", dim, 2 * dim, 1, bias)
    return shapes | _conv("output", 2 * dim, out_channels, 3, bias)


def _conv(key: str, cin: int, cout: int, k: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{key}.weight": (cout, cin, k, k)}
    if bias:
        shapes[f"{key}.bias"] = (cout,)
    return shapes


def _norm(key: str, c: int) -> Shapes:
    return {f"{key}.weight": (c,), f"{key}.bias": (c,)}


def _supervised(key: str, c: int, k: int, bias: bool) -> Shapes:
    return {
        **_conv(f"{key}.conv1", c, c, k, bias),
        **_conv(f"{key}.conv2", c, 3, k, bias),
        **_conv(f"{key}.conv3", 3, c, k, bias),
    }


def _plain_unet(img_channel, width, middle, encoders, decoders, block) -> Shapes:
    shapes = {**_conv("intro", img_channel, width, 3), **_conv("ending", width, img_channel, 3)}
    c = width
    for i, count in enumerate(encoders):
        for j in range(count):
            shapes |= block(f"encoders.{i}.{j}", c)
        shapes |= _conv(f"downs.{i}", c, 2 * c, 2)
        c *= 2
    for j in range(middle):
        shapes |= block(f"middle_blks.{j}", c)
    for i, count in enumerate(decoders):
        shapes |= _conv(f"ups.{i}.0", c, 2 * c, 1, bias=False)
        c //= 2
        for j in range(count):
            shapes |= block(f"decoders.{i}.{j}", c)
    return shapes
