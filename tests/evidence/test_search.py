import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.metrics import auc
from tests.evidence import search_loop, workbench
from tests.evidence.search_ceiling import taught_all
from tests.evidence.search_efficiency import split
from tests.evidence.search_features import ALIGN, LVM, PIXELS, RESNET, FeatureMaker
from tests.evidence.search_loop import EXAMPLES, ROUNDS, TOP, Answers, Curve, answered, halves, paired_interval, search
from tests.evidence.search_report import Results, values, write
from tests.evidence.search_simulated import SOURCE, simulated_targets, surveyed_stamp
from tests.evidence.search_strategies import OURS, SHEET, STRATEGIES, first
from tests.evidence.search_targets import Target, real_targets
from tests.evidence.stamps import Stamps
from tests.evidence.workbench import Workbench

VOTES = "votes.gz2_votes."
ATTRIBUTES = ("bar_length", "inner_ring", "outer_ring", "pseudo_ring", "visible_dust")


def catalogue(rows: list[dict[str, object]]) -> Stamps:
    columns = [
        *(VOTES + name for name in ("smooth.featured", "edge_on.yes", "edge_on.no", "spiral.yes")),
        *(f"value.efigi_attributes.{name}" for name in ATTRIBUTES),
        *("label.gz2_class", "label.efigi_type", "label.ring", "grade.lens_grade"),
    ]
    table = pd.DataFrame(rows, columns=["source", *columns])
    votes = [name for name in columns if not name.startswith("label")]
    table[votes] = table[votes].astype("float32")
    return Stamps(np.zeros((len(rows), 3, 8, 8), np.uint8), table)


def zoo(featured: float, edge_on: float, spiral: float | None = None, called: str | None = None) -> dict[str, object]:
    votes = {"smooth.featured": featured, "edge_on.yes": edge_on, "edge_on.no": 1 - edge_on, "spiral.yes": spiral}
    return {"source": "gz2", "label.gz2_class": called, **{VOTES + name: value for name, value in votes.items()}}


def by_name(stamps: Stamps) -> dict[str, Target]:
    return {target.name: target for target in real_targets(stamps)}


def test_ambiguous_galaxies_of_galaxy_zoo_count_as_no_and_stay_in_the_pool():
    stamps = catalogue([zoo(0.9, 0.9), zoo(0.6, 0.6), zoo(0.05, float("nan")), zoo(0.9, 0.1, 0.9), zoo(0.9, 0.1, 0.3)])
    targets = by_name(stamps)
    assert targets["edge-on"].rows.tolist() == [0, 1, 2, 3, 4]
    assert targets["edge-on"].wanted.tolist() == [True, False, False, False, False]
    assert targets["spiral"].wanted.tolist() == [False, False, False, True, False]


def test_without_votes_on_arms_the_class_says_what_is_spiral_and_with_them_the_votes():
    stamps = catalogue([zoo(0.9, 0.1, None, "spiral"), zoo(0.9, 0.1, None, None), zoo(0.9, 0.1, 0.1, "spiral")])
    assert by_name(stamps)["spiral"].wanted.tolist() == [True, False, False]


def test_a_pool_holds_its_own_source_alone_and_nothing_whose_answer_is_unknown():
    value = "value.efigi_attributes."
    stamps = catalogue(
        [
            zoo(0.9, 0.9),
            {"source": "efigi", "label.efigi_type": "efigi_irregular", value + "bar_length": 0.25},
            {"source": "efigi", value + "bar_length": 0.5, value + "outer_ring": 0.75, value + "inner_ring": 0.0},
            {"source": "decals_rings", "label.ring": "ring"},
            {"source": "decals_rings", "label.ring": "no_ring"},
            {"source": "space_warps", "grade.lens_grade": 2.3},
            {"source": "space_warps", "grade.lens_grade": 1.0},
            {"source": "space_warps", "grade.lens_grade": 0.3},
        ]
    )
    targets = by_name(stamps)
    sources = stamps.table["source"].to_numpy()
    assert all(set(sources[target.rows]) <= {target.source} for target in targets.values())
    assert targets["irregular"].rows.tolist() == [1]  # the other has no type
    assert targets["barred"].wanted.tolist() == [False, True]
    assert targets["ringed"].rows.tolist() == [2] and targets["ringed"].wanted.tolist() == [True]
    assert targets["dusty"].rows.tolist() == []
    assert targets["ring"].wanted.tolist() == [True, False]
    assert targets["lens"].rows.tolist() == [5, 7] and targets["lens"].wanted.tolist() == [True, False]


def test_a_simulated_stamp_is_what_its_truth_says_and_a_picture():
    stamp = surveyed_stamp(6_000_000, 32)
    assert stamp["rgb"].shape == (3, 32, 32) and stamp["rgb"].dtype == np.uint8 and stamp["rgb"].max() > 0
    table = pd.DataFrame({"source": SOURCE, "lens": [True, False, False], "merger": [False, False, True]})
    arc, merger = simulated_targets(Stamps(np.zeros((3, 3, 8, 8), np.uint8), table))
    assert arc.wanted.tolist() == [True, False, False] and merger.wanted.tolist() == [False, False, True]


def pool(count: int = 400, members: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    wanted = np.arange(count) < members
    return generator.normal(size=(count, 6)) + 1.5 * wanted[:, None], wanted


def told(wanted: np.ndarray):
    """A strategy that knows the truth."""

    def strategy(features, answers, seed):
        return wanted.astype(float), first(wanted.astype(float), answers.taken, SHEET), ["best"] * SHEET

    return strategy


def test_who_knows_the_truth_finds_all_that_can_be_found():
    features, wanted = pool()
    curve = search(features, wanted, told(wanted), seed=0)
    assert curve.labels == [EXAMPLES + SHEET * number for number in range(ROUNDS + 1)]
    assert curve.found[:4] == [3 / 40, 19 / 40, 35 / 40, 1] and curve.found == curve.possible
    assert curve.area == 1 and set(curve.harvest) == {1}


def test_precision_counts_only_what_has_no_label_and_is_capped_by_the_members_left():
    features, wanted = pool()
    curve = search(features, wanted, told(wanted), seed=0)
    assert curve.precision[0] == 1  # 37 are left, all of them among the 50 best
    assert np.isnan(curve.precision[3:]).all()  # none is left
    features, wanted = pool(members=90)
    assert search(features, wanted, told(~wanted), seed=0).precision[0] == 0
    assert TOP < 90


def test_an_annotator_who_errs_says_no_to_members_and_yes_to_others_about_as_often_as_asked():
    wanted = np.arange(4000) < 2000
    start = Answers(np.zeros(0, np.int64), np.zeros(0, bool), ())
    answers = answered(start, np.arange(4000), ["best"] * 4000, wanted, 0.05, np.random.default_rng(0))
    wrong = answers.wanted != wanted
    assert 0.03 < wrong[:2000].mean() < 0.07 and 0.03 < wrong[2000:].mean() < 0.07
    right = answered(start, np.arange(4000), ["best"] * 4000, wanted, 0.0, np.random.default_rng(0))
    assert (right.wanted == wanted).all()


def test_a_wrong_yes_is_not_found():
    features, wanted = pool()
    curve = search(features, wanted, told(wanted), seed=0, error=1.0)
    assert set(curve.found) == {3 / 40}  # only the examples


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_shows_whole_sheets_of_what_nobody_has_seen(name, monkeypatch):
    monkeypatch.setattr(search_loop, "ROUNDS", 2)
    features, wanted = pool()
    held_out = np.arange(0, 400, 2)
    seen: list[int] = []

    def watched(table, answers, seed):
        scores, rows, reasons = STRATEGIES[name](table, answers, seed)
        assert not set(rows) & {*answers.rows, *held_out} and len(set(rows)) == len(rows) == len(reasons) == SHEET
        seen.extend(rows)
        return scores, rows, reasons

    curve = search(features, wanted, watched, seed=1, held_out=held_out)
    assert len(set(seen[: SHEET * 2])) == SHEET * 2 and np.isfinite(curve.auc).all()


def test_with_half_held_out_these_alone_judge_and_found_is_of_the_others(monkeypatch):
    features, wanted = pool(members=100)
    held_out = np.arange(50)
    curve = search(features, wanted, told(wanted), seed=0, held_out=held_out)
    assert curve.found[-1] == 1 and curve.precision == [1] * (ROUNDS + 1)  # 50 members wait, whatever was found
    assert np.isnan(curve.auc).all()  # no other is among them
    held_out = np.arange(0, 400, 2)
    monkeypatch.setattr(search_loop, "ROUNDS", 3)
    curve = search(features, wanted, STRATEGIES[OURS], seed=0, held_out=held_out)
    assert auc(wanted, features.sum(axis=1)) > 0.9 and curve.auc[-1] > 0.9


def test_halves_share_no_galaxy_and_no_group_of_near_duplicates():
    groups = np.where(np.arange(300) < 200, np.arange(300) // 4, -1)
    searched, held_out = halves(300, groups, seed=2)
    assert sorted([*searched, *held_out]) == list(range(300)) and 100 < len(searched) < 200
    assert not set(groups[searched]) - {-1} & set(groups[held_out])
    stamps = Stamps(np.zeros((300, 3, 8, 8), np.uint8), pd.DataFrame({"duplicate_group": groups}))
    target = Target("any", "gz2", np.arange(300), np.zeros(300, bool))
    assert split(stamps, target, 2)[0].tolist() == searched.tolist()


def test_the_paired_interval_is_narrow_where_seeds_go_together_and_holds_zero_for_equals():
    generator = np.random.default_rng(0)
    luck = generator.normal(size=(4, 10))
    mean, low, high = paired_interval(luck + 0.1 + 0.01 * generator.normal(size=luck.shape), luck)
    assert 0.08 < low < mean < high < 0.12
    mean, low, high = paired_interval(luck, generator.permuted(luck, axis=1))
    assert low < 0 < high


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    monkeypatch.setattr(workbench, "FOLDER", tmp_path)
    return tmp_path


def test_features_are_made_once_for_the_same_code(home):
    images = torch.randint(0, 256, (80, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stamps = Stamps(images.numpy(), pd.DataFrame({"source": ["gz2"] * 80}))
    from tests.evidence.search import MIDDLE, SMALL

    bench, rows, size = Workbench("search"), np.arange(70), SMALL.features
    maker = FeatureMaker(bench, stamps, rows, size, 1)
    assert set(FeatureMaker(bench, stamps, rows, MIDDLE.features, 1).names) - set(maker.names) == {ALIGN, RESNET}
    vectors = maker.features(PIXELS, stamps, "real")
    assert vectors.shape == (80, 64) and np.isfinite(vectors).all()
    later = FeatureMaker(Workbench("search"), Stamps(images.numpy()[:0], stamps.table), np.arange(0), size, 1)
    assert np.array_equal(later.features(PIXELS, stamps, "real"), vectors)  # nothing there to make them from


def test_all_labels_of_one_half_are_judged_by_the_other():
    features, wanted = pool()
    searched, held_out = np.arange(0, 400, 2), np.arange(1, 400, 2)
    taught = taught_all(features, wanted, searched, held_out, seed=0)
    assert taught["labels"] == 200 and taught["precision"] >= 0.9 and taught["auc"] > 0.95
    misled = np.where(np.isin(np.arange(400), searched), ~wanted, wanted)
    assert taught_all(features, misled, searched, held_out, seed=0)["auc"] < 0.05


def made_up(above: float) -> dict[str, list[float]]:
    """A curve that rises to 0.5 and so much."""
    rounds = np.arange(ROUNDS + 1)
    rising = (0.5 * rounds / ROUNDS + above).tolist()
    return Curve((3 + 16 * rounds).tolist(), rising, [1.0] * (ROUNDS + 1), rising, rising, rising).to_dict()


def test_the_report_says_who_is_above_whom_and_where_resnet_never_gets(home, monkeypatch):
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(
        "tests.evidence.workbench.report", lambda *line: lines.append({"name": line[0], "value": line[1]})
    )
    wanted = np.arange(600) < 120
    target = Target("edge-on", "gz2", np.arange(600), wanted)
    searches = {
        (LVM, name, error, held_out, "edge-on"): [made_up(0.01 * place + 0.001 * seed) for seed in range(3)]
        for place, name in enumerate(STRATEGIES)
        for error, held_out in ((0.0, False), (0.05, False), (0.0, True))
    }
    ceilings = {"edge-on": [{"labels": 290, "precision": 0.9, "auc": 0.95}]}
    networks = {"edge-on": {100.0: 0.6, 400.0: 0.8}}
    write(Workbench("search", "middle"), Results(searches, ceilings, networks, (target,), (LVM,), 0.05, "A remark."))
    text = (home / "tables" / "search.md").read_text()
    assert (
        "edge-on (120 of 600)" in text
        and "at least 400" in text
        and (home / "pictures" / "search.png").stat().st_size > 1000
    )
    figures = {str(line["name"]): line["value"] for line in lines}
    unseen, all_labels = "hitl_precision_top50_unseen", "hitl_precision_top50_all_labels"
    assert set(figures) == {"hitl_label_efficiency", "hitl_precision_top50", "hitl_harvest_top50", unseen, all_labels}
    assert figures[all_labels] == 0.9 and "all labels of the other half | 0.90 / 0.95 |" in text
    assert figures[unseen] == pytest.approx(values(searches[LVM, OURS, 0.0, True, "edge-on"], "precision").mean())
    assert figures["hitl_harvest_top50"] == pytest.approx(
        values(searches[LVM, OURS, 0.0, False, "edge-on"], "harvest").mean()
    )
    assert "-0.010 (-0.010 to -0.010)" in text  # seed by seed, the next strategy is so much above ours
