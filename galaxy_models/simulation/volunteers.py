"""Votes that some forty volunteers would cast, drawn from the truth and from how well it can be seen.

How often volunteers are right is our choice: features fade with signal-to-noise and with size over seeing, and
volunteers agree less than a binomial says.
"""

from __future__ import annotations

import numpy as np

from .galaxy import FEATURED_DISK
from .questions import QUESTIONS
from .scene import DISTURBED_RADIUS, VOTE_STREAM, SimulatedObject, stream

VOLUNTEERS = 40
AGREEMENT = 30.0
"""Concentration of the Dirichlet distribution from which a galaxy's own probabilities are drawn."""


def visibility(simulated: SimulatedObject) -> float:
    """How well structure can be seen, 0 to 1, from signal-to-noise and from half-light radius over seeing."""
    galaxy, conditions = simulated.galaxy, simulated.conditions
    radius = DISTURBED_RADIUS if galaxy.disturbance else galaxy.half_light_radius
    sharp = _logistic((radius / float(np.mean(conditions.psf_fwhm)) - 1.5) / 0.35)
    deep = _logistic((float(np.log10(simulated.signal_to_noise)) - 2.0) / 0.15)
    return float(sharp * deep)


def draw_votes(simulated: SimulatedObject) -> dict[str, dict[str, int]]:
    """Votes by question and answer, asked along the tree: only those who said `featured` are asked for arms."""
    generator = stream(simulated.seed, simulated.index, VOTE_STREAM)
    asked = int(np.clip(generator.poisson(VOLUNTEERS), 30, 60))
    opinions = {question: _own(generator, chances) for question, chances in probabilities(simulated).items()}
    votes: dict[str, dict[str, int]] = {}

    def ask(question: str, people: int) -> None:
        counts = generator.multinomial(people, opinions[question])
        votes[question] = {answer: int(n) for answer, n in zip(QUESTIONS[question], counts, strict=True)}

    ask("smooth_or_featured", asked)
    ask("how_rounded", votes["smooth_or_featured"]["smooth"])
    ask("disk_edge_on", votes["smooth_or_featured"]["featured_or_disk"])
    ask("has_spiral_arms", votes["disk_edge_on"]["no"])
    ask("bar", votes["disk_edge_on"]["no"])
    ask("spiral_winding", votes["has_spiral_arms"]["yes"])
    ask("spiral_arm_count", votes["has_spiral_arms"]["yes"])
    ask("merging", asked - votes["smooth_or_featured"]["artifact"])
    return votes


def probabilities(simulated: SimulatedObject) -> dict[str, list[float]]:
    """Mean chance of each answer of each question, in the order of `QUESTIONS`."""
    galaxy, seen = simulated.galaxy, visibility(simulated)
    disk = galaxy.disk
    arms = disk.arms if disk is not None and not galaxy.disturbance else None
    featured = {
        "round_smooth": 0.05,
        "in_between_smooth": 0.09,
        "cigar_smooth": 0.22,
        "edge_on_disk": _between(0.35, 0.95, seen),
        "spiral": _between(0.15, 0.95, seen * (0.5 + 0.5 * arms.strength) if arms else seen),
        FEATURED_DISK: _between(0.12, 0.75, seen),
        "disturbed": _between(0.35, 0.75, seen),
    }[galaxy.kind]
    edge_on = {
        "edge_on_disk": _between(0.55, 0.96, seen),
        "cigar_smooth": 0.6,
        "spiral": 0.03 + 0.15 * _logistic((0.5 - galaxy.axis_ratio) / 0.05),
    }.get(galaxy.kind, 0.06)
    spiral = _between(0.35, 0.97, seen * (0.4 + 0.6 * arms.strength)) if arms else 0.10
    return {
        "smooth_or_featured": [0.98 * (1 - featured), 0.98 * featured, 0.02],
        "disk_edge_on": [edge_on, 1 - edge_on],
        "has_spiral_arms": [spiral, 1 - spiral],
        "bar": _bar(simulated, seen),
        "how_rounded": _roundness(galaxy.axis_ratio if not galaxy.disturbance else 0.6),
        "spiral_winding": _winding(arms.pitch if arms else 18.0, seen if arms else 0.0),
        "spiral_arm_count": _arm_count(arms.count if arms else 0, seen),
        "merging": _merging(galaxy.disturbance, seen),
    }


def _bar(simulated: SimulatedObject, seen: float) -> list[float]:
    disk = simulated.galaxy.disk
    if disk is None or disk.bar is None or simulated.galaxy.disturbance:
        return [0.03, 0.12, 0.85]
    strong = _logistic((disk.bar.fraction - 0.15) / 0.03)
    found = _between(0.2, 0.93, seen)
    return [found * strong, found * (1 - strong), 1 - found]


def _roundness(axis_ratio: float) -> list[float]:
    round_one = _logistic((axis_ratio - 0.78) / 0.045)
    cigar = _logistic((0.39 - axis_ratio) / 0.035)
    return [round_one, max(1 - round_one - cigar, 0.0), cigar]


def _winding(pitch: float, seen: float) -> list[float]:
    tight, loose = _logistic((15 - pitch) / 1.8), _logistic((pitch - 22.5) / 1.8)
    clear = [tight, max(1 - tight - loose, 0.0), loose]
    return [_between(1 / 3, chance, 0.3 + 0.7 * seen) for chance in clear]


def _arm_count(count: int, seen: float) -> list[float]:
    chances = np.array([0.04, 0.12, 0.05, 0.03, 0.04, _between(0.6, 0.08, seen)])
    if count:
        chances[count - 1] += _between(0.1, 1.6, seen)
    return list(chances / chances.sum())


def _merging(disturbance: str, seen: float) -> list[float]:
    undisturbed = np.array([0.88, 0.08, 0.02, 0.02])
    clear = {
        "pair": np.array([0.05, 0.08, 0.22, 0.65]),
        "shells": np.array([0.35, 0.45, 0.15, 0.05]),
        "irregular": np.array([0.55, 0.27, 0.15, 0.03]),
    }.get(disturbance, undisturbed)
    return list(undisturbed + seen * (clear - undisturbed))


def _own(generator: np.random.Generator, chances: list[float]) -> np.ndarray:
    mean = np.maximum(np.array(chances), 1e-3)
    return generator.dirichlet(AGREEMENT * mean / mean.sum())


def _between(low: float, high: float, share: float) -> float:
    return float(low + (high - low) * share)


def _logistic(t: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(t, -40, 40))))
