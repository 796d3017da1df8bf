"""The large vision model: sizes, presets, and what it must not see."""

from __future__ import annotations

import json

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch.nn import functional

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputError, InputSpec
from galaxy_models.lvm import PRESETS, GalaxyLVM, LvmConfiguration, architecture, build_lvm, from_architecture, looks
from galaxy_models.morphometry import MEASURED_COLUMNS
from galaxy_models.predictor import load_network, save_model
from galaxy_models.ring_structure import RING_COLUMNS
from galaxy_models.swin import SwinBlock, attention_mask, mix_fused, mix_plainly
from galaxy_models.upsample import DualUpsample

TINY = LvmConfiguration(8, (2, 2, 2, 2), (2, 2, 2), (2, 2, 4, 4))


@pytest.fixture
def tiny() -> GalaxyLVM:
    torch.manual_seed(1)
    network = GalaxyLVM(TINY).eval()
    for parameter in network.parameters():  # 0.02 would hide a wrong mask behind tiny weights
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize(
    "preset, millions, tolerance", [("nano", 1.0, 0.25), ("small", 10.0, 0.02), ("base", 100.0, 0.02)]
)
def test_presets_have_the_size_that_they_are_named_for(preset: str, millions: float, tolerance: float) -> None:
    with torch.device("meta"):
        network = GalaxyLVM(PRESETS[preset])
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(millions * 1e6, rel=tolerance)


def test_base_has_the_encoder_of_sunet() -> None:
    with torch.device("meta"):
        network = GalaxyLVM(PRESETS["base"])
    encoder = sum(parameter.numel() for parameter in network.encoder.parameters())
    assert encoder == pytest.approx(77_115_553, rel=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_weights_of_our_own_encoder_keep_the_names_that_older_files_have(preset: str) -> None:
    with torch.device("meta"):
        network = build_lvm(preset)
        names = network.state_dict()
        whole = torch.nn.ModuleDict({"lvm": network})
    assert {name.split(".")[0] for name in names} == {
        *(
            "rgb_mean",
            "rgb_spread",
            "shallow",
            "patch_embedding",
            "patch_norm",
            "mask_token",
            "stages",
            "merges",
            "norm",
        ),
        *("upsamples", "joins", "decoder_stages", "decoder_norm", "final_upsample", "to_rgb"),
    }
    assert set(whole.state_dict()) == {f"lvm.{name}" for name in names}, "within another network too"
    whole.load_state_dict(whole.state_dict())
    with pytest.raises(RuntimeError, match=r"encoder\.norm\.bias"):
        network.load_state_dict({name: value for name, value in names.items() if name != "norm.bias"})


@pytest.mark.parametrize("size", [64, 96, 128, 160])
def test_used_at_other_sizes_before_it_answers_like_a_new_network(tiny: GalaxyLVM, size: int) -> None:
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    fresh = from_architecture(architecture(tiny)).eval()
    fresh.load_state_dict(tiny.state_dict())
    with torch.no_grad():
        for other in (160, 64, 128, 96):
            tiny(torch.rand(1, 3, other, other))
        attention_mask.cache_clear()
        assert torch.equal(tiny(image), fresh(image))


@pytest.mark.parametrize("grid, shift", [(8, 0), (16, 4), (24, 4), (32, 4), (40, 0), (40, 4)])
def test_a_block_is_timms_block_where_timms_is_built_for_the_size(grid: int, shift: int) -> None:
    torch.manual_seed(0)
    ours = SwinBlock(16, heads=2, window=8, shift=shift, mlp_ratio=2.0, drop_path=0.0).eval()
    theirs = SwinTransformerBlock(16, (grid, grid), num_heads=2, window_size=8, shift_size=shift, mlp_ratio=2.0).eval()
    torch.nn.init.normal_(ours.attn.relative_position_bias_table)
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, grid, grid, 16)
    with torch.no_grad():
        answer = ours(tokens, ours.mask_of(grid, grid, tokens.device))
        torch.testing.assert_close(answer, theirs(tokens), atol=1e-5, rtol=1e-5)


def test_a_small_map_is_one_window_with_the_biases_of_the_same_offsets() -> None:
    """A map of 4 x 4 must look like those tokens do within a window of 8 x 8 whose other tokens are hidden."""
    torch.manual_seed(0)
    block = SwinBlock(8, heads=2, window=8, shift=4, mlp_ratio=2.0, drop_path=0.0).eval()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    tokens = torch.randn(1, 16, 8)
    whole = torch.zeros(1, 8, 8, 8)
    whole[:, :4, :4] = tokens.view(1, 4, 4, 8)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[:4, :4] = True
    mask = torch.where(inside.flatten()[None, :], 0.0, -100.0).expand(64, 64)[None]
    with torch.no_grad():
        small = block.attn(tokens, window=(4, 4))
        large = block.attn(whole.view(1, 64, 8), mask=mask, window=(8, 8))
    torch.testing.assert_close(small.view(4, 4, 8), large.view(8, 8, 8)[:4, :4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("windows", [0, 4])
@pytest.mark.parametrize("channels", [12, 16])
def test_the_fused_attention_of_gpus_is_the_plain_one(windows: int, channels: int) -> None:
    """Values, and the gradients of all that is learnt; 12 channels a head are filled up to 16."""
    torch.manual_seed(0)
    parts = [torch.randn(8, 2, 16, channels, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(16, 16, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.where(torch.rand(windows, 16, 16) < 0.8, 0.0, -100.0) if windows else None
    plain, fused = (mix(*parts, bias.permute(2, 0, 1), mask, channels**-0.5) for mix in (mix_plainly, mix_fused))
    torch.testing.assert_close(fused, plain)
    weight = torch.randn_like(plain)
    for mine, theirs in zip(
        *(torch.autograd.grad((each * weight).sum(), [*parts, bias]) for each in (fused, plain)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_padding_of_a_map_that_the_window_does_not_divide_is_seen_by_nobody() -> None:
    mask = attention_mask((12, 12), (8, 8), (0, 0), torch.device("cpu"))
    corner = mask[3].view(8, 8, 8, 8)  # the window with 4 x 4 real tokens
    assert (corner[:4, :4, :4, :4] == 0).all()
    assert (corner[:4, :4, 4:, :] == -100).all() and (corner[:4, :4, :, 4:] == -100).all()


def test_shifted_windows_do_not_join_opposite_borders() -> None:
    """A change at the left border stays in its window, which the shift has cut to 8 x 4 tokens there."""
    torch.manual_seed(0)
    block = SwinBlock(8, heads=2, window=8, shift=4, mlp_ratio=2.0, drop_path=0.0).eval()
    tokens = torch.randn(1, 24, 24, 8)
    changed = tokens.clone()
    changed[:, 8, 0] += 3 * torch.randn(8)  # a constant would be lost in the norm
    with torch.no_grad():
        mask = block.mask_of(24, 24, tokens.device)
        moved = (block(changed, mask) - block(tokens, mask)).abs().amax(dim=(0, 3)) > 1e-6
    assert moved[4:12, :4].all()
    assert not moved[:, 4:].any()


@pytest.mark.parametrize("size", [128, 152, 160, 224, 256])
def test_sizes_of_surveys_are_painted_back_at_their_own_size(tiny: GalaxyLVM, size: int) -> None:
    """A multiple of 32 is not padded; the others answer as their padded image does in the middle."""
    image = torch.rand(1, 3, size, size)
    border = -size % 32 // 2
    with torch.no_grad():
        whole = tiny(functional.pad(image, (border,) * 4, mode="replicate"))
        assert torch.equal(tiny(image), whole[..., border : border + size, border : border + size])


def test_every_multiple_of_8_from_32_to_512_is_taken() -> None:
    with torch.device("meta"):
        network = GalaxyLVM(TINY)
        for size in range(32, 513, 8):
            assert network(torch.empty(1, 3, size, 64)).shape == (1, 3, size, 64)


@pytest.mark.parametrize("size, near", [(33, "32 and 40"), (24, "32"), (520, "512"), (100, "96 and 104")])
def test_other_sizes_are_refused_with_the_nearest_legal_ones(tiny: GalaxyLVM, size: int, near: str) -> None:
    for call in (tiny, tiny.encode, tiny.embed):
        with pytest.raises(InputError, match=rf"{size} x 64 px; .*32 to 512; nearest to {size} (is|are) {near}"):
            call(torch.zeros(1, 3, 64, size))


@pytest.mark.parametrize("size, padded", [(64, 64), (152, 160), (40, 64), (512, 512)])
def test_pyramid_has_strides_4_to_32_and_the_output_the_input_size(tiny: GalaxyLVM, size: int, padded: int) -> None:
    image = torch.rand(1, 3, size, size)
    with torch.no_grad():
        shapes = [tuple(features.shape) for features in tiny.encode(image)]
        assert tiny(image).shape == image.shape
        assert tiny.embed(image).shape == (1, tiny.embedding_size)
    assert shapes == [(1, c, padded // s, padded // s) for c, s in zip(tiny.channels, (4, 8, 16, 32), strict=True)]


def test_hidden_pixels_do_not_change_the_answer(tiny: GalaxyLVM) -> None:
    image = torch.rand(1, 3, 64, 64)
    hidden = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hidden[:, :, 16:32, 8:24] = True
    other = torch.where(hidden, torch.rand(1, 3, 64, 64), image)
    with torch.no_grad():
        assert torch.equal(tiny(image, hidden), tiny(other, hidden))
        assert not torch.equal(tiny(image), tiny(other))


def test_embedding_is_the_spread_of_features_over_the_stamp(tiny: GalaxyLVM) -> None:
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        pyramids, embedding = [tiny.encode(look) for look in looks(image)], tiny.embed(image)
    assert embedding.shape == (2, 16 + 32)
    for columns, level in ((slice(16), 1), (slice(16, None), 2)):
        spreads = torch.stack([maps[level].flatten(2).std(dim=2, correction=0) for maps in pyramids])
        torch.testing.assert_close(embedding[:, columns], spreads.mean(dim=0))
    assert build_lvm("nano").embedding_size >= 128


def test_how_a_galaxy_lies_changes_its_embedding_little(tiny: GalaxyLVM) -> None:
    """A thin disk, turned by a quarter or mirrored: far less than the same network's view of a single look."""
    place = torch.arange(64) - 31.5
    slanted = torch.exp(-(((place[:, None] - 0.5 * place) / 3) ** 2) - (place / 20) ** 2)
    disk = slanted.expand(1, 3, 64, 64)

    def one_look(rgb: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps.flatten(2).std(dim=2, correction=0) for maps in tiny.encode(rgb)[1:3]], dim=1)

    with torch.no_grad():
        for other in (torch.rot90(disk, 1, (2, 3)), disk.flip(3), disk.flip(2)):
            single = (one_look(other) - one_look(disk)).norm()
            assert (tiny.embed(other) - tiny.embed(disk)).norm() < 0.3 * single


def test_dual_upsampling_is_sunets_formula() -> None:
    for factor, out in ((2, 4), (4, 8), (2, 6)):
        block = DualUpsample(8, out, factor).double()
        x = torch.randn(2, 8, 5, 7, dtype=torch.double)
        a = functional.pixel_shuffle(block.shuffle_activation(block.shuffle_expand(x)), factor)
        b = functional.interpolate(
            block.smooth_activation(block.smooth_expand(x)), scale_factor=factor, mode="bilinear"
        )
        written = block.merge(torch.cat([block.shuffle_project(a), block.smooth_project(b)], dim=1))
        torch.testing.assert_close(block(x), written)


def test_rgb_statistics_travel_with_the_weights(tiny: GalaxyLVM) -> None:
    tiny.set_rgb_statistics(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.0]))
    other = GalaxyLVM(TINY)
    other.load_state_dict(tiny.state_dict())
    assert other.rgb_mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert other.rgb_spread.min() > 0, "a channel without spread must not be divided by zero"


def test_saved_model_answers_the_same(tiny: GalaxyLVM, tmp_path) -> None:
    inputs = InputSpec(("g", "r", "z"), 64, 64, 1, (0.2, 0.3), True)
    card = ModelCard("galaxy-lvm", json.loads(json.dumps({"kind": "lvm", **architecture(tiny)})), inputs)
    save_model(tmp_path, card, tiny)
    _, loaded = load_network(tmp_path)
    image = torch.rand(3, 3, 64, 64)
    columns = loaded.eval().predict_columns(image)
    assert list(columns) == ["embedding", *MEASURED_COLUMNS, *RING_COLUMNS]
    assert columns["embedding"].shape == (3, tiny.embedding_size)
    assert (columns["embedding"] == tiny.predict_columns(image)["embedding"]).all()


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*base.*nano.*small.*timm:NAME"):
        build_lvm("huge")
    with pytest.raises(ValueError, match=r"'smal'; did you mean 'small'\?"):
        build_lvm("smal")
