"""GalaxAlign: one space for three modalities, prototypes table by table, towers from local files only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from galaxy_models import align_objective
from galaxy_models.align import CONTEXT_LENGTH, GalaxAlign
from galaxy_models.align_objective import AlignObjective, PairWeights
from galaxy_models.card import ModelCard
from galaxy_models.image_towers import ImageTowerError, LvmTower, build_image_tower, load_open_clip_tower
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from galaxy_models.predictor import load_network, save_model
from galaxy_models.prompts import class_prompts, held_out_prompts
from galaxy_models.symbols import UnknownClassError, known_symbols
from galaxy_models.training import fit

TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)
INPUTS = InputSpec(("g", "r", "z"), 32, 32, 1, (0.2, 0.3), True)
TABLES = {"shapes": ["round_smooth", "spiral", "edge_on_disk"], "guide": ["guide_ring", "guide_bar"]}
OPEN_CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


def network_of(tables: dict[str, list[str]] = TABLES, seed: int = 0) -> GalaxAlign:
    torch.manual_seed(seed)
    return GalaxAlign(LvmTower(GalaxyLVM(TINY)), 16, tables)


@pytest.fixture(scope="module", autouse=True)
def few_classes() -> Iterator[None]:
    """Symbols and texts of a few classes only are drawn together: the others cost time and add nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align_objective, "known_symbols", lambda: [*TABLES["shapes"], "ring", "bar"])
        yield


@pytest.fixture(scope="module")
def network() -> GalaxAlign:
    built = network_of().eval()
    built.update_prototypes()
    return built


@pytest.fixture
def rgb() -> Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_all_modalities_give_unit_vectors_of_one_space(network: GalaxAlign, rgb: Tensor) -> None:
    for vectors in (network.encode_images(rgb), network.encode_texts(["a ring."]), network.encode_symbols(["ring"])):
        assert vectors.shape[1] == 16
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)


def test_every_prompt_fits_the_text_tower_whole(network: GalaxAlign) -> None:
    texts = [text for name in known_symbols() for text in class_prompts(name) + held_out_prompts(name)]
    tokens = network.tokenize(texts)
    assert tokens.shape == (len(texts), CONTEXT_LENGTH)
    assert (tokens[:, -1] == 0).all()  # padding is left, so nothing was cut


def test_probabilities_compete_within_a_table_only(network: GalaxAlign, rgb: Tensor) -> None:
    columns = network.predict_columns(rgb)
    for table in TABLES:
        total = sum(columns[name] for name in network.class_columns(table))
        assert np.allclose(total, 1, atol=1e-5)
    assert columns["embedding"].shape == (5, 16) and columns["embedding"].dtype == np.float32


def test_a_class_of_two_tables_is_told_apart_by_its_table() -> None:
    shared = network_of({"sdss": ["spiral", "ring"], "decals": ["spiral", "bar"]})
    assert shared.class_columns("sdss") == ["p_sdss_spiral", "p_ring"]
    assert shared.class_columns("decals") == ["p_decals_spiral", "p_bar"]


def test_the_text_share_mixes_the_two_prototypes(network: GalaxAlign, rgb: Tensor) -> None:
    embedding = network.encode_images(rgb)
    text, symbol = network.modality_scores(embedding, "guide")
    for share in (0.0, 0.3, 1.0):
        network.text_share[1] = share
        expected = torch.softmax(network.sharpness[1] * (share * text + (1 - share) * symbol), dim=1)
        assert torch.allclose(network.class_probabilities(embedding, "guide"), expected)
    network.text_share[1] = 0.5


def test_prototypes_follow_the_meaning_of_a_class_and_not_its_name(network: GalaxAlign) -> None:
    ring = network.encode_texts(class_prompts("ring")).mean(dim=0)
    assert torch.allclose(network.text_prototypes[3], ring / ring.norm(), atol=1e-5)
    assert torch.allclose(network.symbol_prototypes[3:4], network.encode_symbols(["ring"]), atol=1e-5)


def test_a_saved_model_answers_the_same_with_its_tables_in_order(
    network: GalaxAlign, rgb: Tensor, tmp_path: Path
) -> None:
    # "shapes" before "guide": JSON keys get sorted, and prototypes must not change places
    card = ModelCard("galaxy-align", network.describe(), INPUTS)
    save_model(tmp_path, card, network)
    loaded = load_network(tmp_path)[1].eval()
    assert isinstance(loaded, GalaxAlign)
    before, after = network.predict_columns(rgb), loaded.predict_columns(rgb)
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert torch.equal(network.encode_texts(["an odd thing"]), loaded.encode_texts(["an odd thing"]))


def test_an_unknown_symbol_is_refused_with_the_known_ones(network: GalaxAlign) -> None:
    with pytest.raises(UnknownClassError, match=r"green_pea.*irregular"):
        network.encode_symbols(["green_pea"])
    with pytest.raises(UnknownClassError, match="green_pea"):
        network_of({"shapes": ["green_pea", "spiral"]})


def _batches(start: int) -> Iterator[dict[str, Any]]:
    """Discs are `round_smooth`, stripes `edge_on_disk`, chequers `spiral`."""
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    shapes = [(x.hypot(y) < 9).float(), ((x // 3 + y // 3) % 2).float(), (y.abs() < 2).float()]
    step = start
    while True:
        generator = torch.Generator().manual_seed(step)
        classes = torch.randint(3, (12,), generator=generator)
        images = torch.stack([shapes[int(code)] for code in classes])[:, None].expand(-1, 3, -1, -1)
        noise = 0.1 * torch.rand(images.shape, generator=generator)
        yield {"images": 0.8 * images + noise, "classes": classes, "table": "shapes"}
        step += 1


def _train(network: GalaxAlign, stage: int, steps: int, folder: Path, **more: Any) -> AlignObjective:
    objective = AlignObjective(network, stage, lambda stamps, _: stamps, PairWeights(), image_rate=1.0)
    fit(
        objective, _batches, steps=steps, folder=folder, checkpoint_steps=3, learning_rate=3e-3, weight_decay=0.01,
        seed=0, **more,
    )  # fmt: skip
    objective.release()
    return objective


def test_stage_1_leaves_the_image_tower_as_it_was_and_stage_2_does_not(tmp_path: Path) -> None:
    network = network_of()
    tower = {name: value.clone() for name, value in network.image_tower.state_dict().items()}
    projection = network.image_projection.weight.clone()
    _train(network, 1, 3, tmp_path / "1")
    assert all(torch.equal(value, tower[name]) for name, value in network.image_tower.state_dict().items())
    assert not torch.equal(network.image_projection.weight, projection)
    _train(network, 2, 3, tmp_path / "2")
    changed = {name for name, value in network.image_tower.state_dict().items() if not torch.equal(value, tower[name])}
    assert any(name.startswith("lvm.stages") for name in changed)
    assert not any(name.startswith(("lvm.decoder", "lvm.to_rgb", "lvm.upsamples")) for name in changed)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_killed_stage_ends_with_the_same_weights(stage: int, tmp_path: Path) -> None:
    whole, killed = network_of(), network_of()
    _train(whole, stage, 6, tmp_path / "whole")

    def kill(done: int, total: int, note: str = "") -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _train(killed, stage, 6, tmp_path / "killed", progress=kill)
    resumed = network_of(seed=1)  # what it starts from must not matter: the checkpoint holds everything
    _train(resumed, stage, 6, tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny open_clip model, laid out as open_clip publishes its models."""
    folder = tmp_path_factory.mktemp("open_clip")
    torch.manual_seed(2)
    model = open_clip.CLIP(OPEN_CLIP["embed_dim"], OPEN_CLIP["vision_cfg"], OPEN_CLIP["text_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def test_an_open_clip_tower_comes_from_its_folder(checkpoint: Path, rgb: Tensor) -> None:
    tower = load_open_clip_tower(str(checkpoint)).eval()
    model = open_clip.CLIP(OPEN_CLIP["embed_dim"], OPEN_CLIP["vision_cfg"], OPEN_CLIP["text_cfg"]).eval()
    open_clip.load_checkpoint(model, str(checkpoint / "open_clip_model.safetensors"))
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    spread = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(tower(rgb), model.encode_image((rgb - mean) / spread), atol=1e-5)


def test_a_model_on_an_open_clip_tower_needs_no_checkpoint_to_be_loaded(
    checkpoint: Path, rgb: Tensor, tmp_path: Path
) -> None:
    network = GalaxAlign(load_open_clip_tower(str(checkpoint)), 16, TABLES).eval()
    assert "open_clip" not in json.dumps(network.describe()["image_tower"]["configuration"])
    save_model(tmp_path, ModelCard("galaxy-align", network.describe(), INPUTS), network)
    loaded = load_network(tmp_path)[1].eval()
    assert np.array_equal(network.predict_columns(rgb)["embedding"], loaded.predict_columns(rgb)["embedding"])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (lambda folder: "ViT-B-32", "never downloaded"),
        (lambda folder: "hf-hub:somebody/something", "never downloaded"),
        (lambda folder: "No-Such-Model=weights.safetensors", "knows no model 'No-Such-Model'"),
        (lambda folder: "ViT-B-32=/nowhere/weights.safetensors", "cannot read the open_clip weights"),
        (lambda folder: str(folder / "empty"), "open_clip_config.json"),
        (lambda folder: str(folder / "bare"), "has none of open_clip_model.safetensors"),
        (lambda folder: str(folder / "other"), "do not fit"),
    ],
)
def test_a_tower_that_is_not_there_is_explained(name: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    for folder in ("empty", "bare", "other"):
        (tmp_path / folder).mkdir()
    for folder in ("bare", "other"):
        (tmp_path / folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "other" / "open_clip_model.safetensors")
    with pytest.raises(ImageTowerError, match=message):
        load_open_clip_tower(name(tmp_path))


def test_an_unknown_kind_of_tower_is_refused() -> None:
    with pytest.raises(ImageTowerError, match=r"'resnet'.*'lvm' and 'open_clip'"):
        build_image_tower({"kind": "resnet"})
