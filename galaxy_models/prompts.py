"""What each class is called in words: four descriptions per class, set into sentence templates.

The last description of a class is never trained on: it tests whether the text encoder understands
words it has not seen together.
"""

from __future__ import annotations

from .symbols import canonical_class

TEMPLATES = (
    "{}.",
    "a telescope image of {}.",
    "this stamp shows {}.",
    "the galaxy in the middle is {}.",
    "a survey picture, and in it {}.",
)

DESCRIPTIONS: dict[str, tuple[str, str, str, str]] = {
    "smooth": (
        "a smooth galaxy without any features",
        "a plain body of light that fades outward",
        "a featureless galaxy with no sign of a disk",
        "an even glow in which no structure can be made out",
    ),
    "featured": (
        "a galaxy with features, such as arms or a bar",
        "a disk galaxy with visible structure",
        "a galaxy that has a disk and patterns in it",
        "a structured disk that is not smooth",
    ),
    "artifact": (
        "a star with diffraction spikes or an image artifact",
        "no galaxy at all but a bright star or a defect",
        "a point of light with a cross of spikes",
        "a star, a satellite trail or a fault of the camera",
    ),
    "round_smooth": (
        "a smooth and completely round galaxy",
        "a round featureless ball of light",
        "a circular smooth galaxy without a disk",
        "an even glow shaped like a circle",
    ),
    "in_between_smooth": (
        "a smooth oval galaxy, in between round and cigar shaped",
        "a featureless galaxy with an elliptical outline",
        "a somewhat flattened smooth body of light",
        "an even glow shaped like an egg",
    ),
    "cigar_smooth": (
        "a smooth cigar shaped galaxy",
        "a long and narrow featureless galaxy",
        "a very elongated smooth body of light",
        "an even glow stretched out like a cigar",
    ),
    "elliptical": (
        "an elliptical galaxy",
        "an early type galaxy without a disk, smooth and old",
        "a red elliptical with a bright core and a wide halo",
        "a spheroid of old stars with no disk",
    ),
    "edge_on_disk": (
        "a disk galaxy seen edge-on",
        "a thin disk viewed from the side",
        "a narrow needle of light, a disk at high inclination",
        "a flat disk that we look at exactly from its side",
    ),
    "edge_on_rounded_bulge": (
        "an edge-on disk with a rounded bulge",
        "a thin disk from the side with a round bulge in the middle",
        "a disk galaxy viewed edge-on whose centre bulges out",
        "a needle of light with a ball at its centre",
    ),
    "edge_on_boxy_bulge": (
        "an edge-on disk with a boxy bulge",
        "a thin disk from the side with a box shaped centre",
        "a disk galaxy viewed edge-on whose bulge looks like a peanut",
        "a needle of light with a square block at its centre",
    ),
    "edge_on_no_bulge": (
        "an edge-on disk without a bulge",
        "a thin disk from the side with no bulge at all",
        "a superthin disk galaxy viewed edge-on",
        "a needle of light that is flat right through its centre",
    ),
    "dust_lane": (
        "a galaxy crossed by a dark dust lane",
        "a disk galaxy with a lane of dust along its middle",
        "a dark band of dust in front of the light of a galaxy",
        "a galaxy cut in two by a dark stripe",
    ),
    "face_on_disk": (
        "a disk galaxy that is not edge-on",
        "a disk viewed face-on or tilted",
        "an open disk seen from above",
        "a flat galaxy that we do not look at from its side",
    ),
    "lenticular": (
        "a lenticular galaxy",
        "a disk galaxy without spiral arms and with a large bulge",
        "an early type disk, smooth and without arms",
        "a lens shaped galaxy of old stars between elliptical and spiral",
    ),
    "spiral": (
        "a spiral galaxy",
        "a disk galaxy with spiral arms",
        "a galaxy with arms winding out of its centre",
        "a pinwheel of stars, a disk with curved arms",
    ),
    "no_spiral": (
        "a disk galaxy without spiral arms",
        "a face-on disk with no arms",
        "a disk in which no spiral pattern is seen",
        "a plain disk that lacks arms",
    ),
    "early_spiral": (
        "an early type spiral galaxy with a large bulge",
        "a spiral of type Sa or Sb with tight smooth arms",
        "a spiral galaxy dominated by its bulge",
        "a reddish spiral with a big bright centre and tightly wound arms",
    ),
    "late_spiral": (
        "a late type spiral galaxy with a small bulge",
        "a spiral of type Sc or Sd with open clumpy arms",
        "a blue spiral galaxy with loose patchy arms",
        "an open spiral full of young stars and hardly any bulge",
    ),
    "tight_spiral": (
        "a spiral galaxy with tightly wound arms",
        "tight spiral arms wrapped closely around the centre",
        "a spiral whose arms have a small pitch angle",
        "arms wound up tight like a watch spring",
    ),
    "medium_spiral": (
        "a spiral galaxy with arms wound neither tight nor loose",
        "medium wound spiral arms",
        "a spiral whose arms have a medium pitch angle",
        "arms that are moderately wound",
    ),
    "loose_spiral": (
        "a spiral galaxy with loosely wound arms",
        "loose and open spiral arms",
        "a spiral whose arms have a large pitch angle",
        "arms that swing out wide and open",
    ),
    "one_arm": (
        "a spiral galaxy with one arm",
        "a single spiral arm",
        "a lopsided spiral with only one arm",
        "a disk with just 1 arm",
    ),
    "two_arms": (
        "a spiral galaxy with two arms",
        "a grand design spiral with a pair of arms",
        "two opposite spiral arms",
        "a disk with 2 arms",
    ),
    "three_arms": (
        "a spiral galaxy with three arms",
        "three spiral arms around a centre",
        "a spiral with a triple of arms",
        "a disk with 3 arms",
    ),
    "four_arms": (
        "a spiral galaxy with four arms",
        "four spiral arms around a centre",
        "a spiral with two pairs of arms",
        "a disk with 4 arms",
    ),
    "many_arms": (
        "a spiral galaxy with more than four arms",
        "many spiral arms around a centre",
        "a flocculent spiral with a lot of short arms",
        "a disk with 5 or more arms",
    ),
    "unclear_arms": (
        "a spiral galaxy whose arms cannot be counted",
        "an uncertain number of spiral arms",
        "arms too faint or tangled to count",
        "a disk in which nobody can tell how many arms there are",
    ),
    "bar": (
        "a galaxy with a bar through its centre",
        "a barred disk",
        "a straight bar of stars across the middle of a disk",
        "a disk crossed by a straight beam of stars",
    ),
    "strong_bar": (
        "a galaxy with a strong bar",
        "a long and bright bar across a disk, arms begin at its ends",
        "a strongly barred disk galaxy",
        "a disk ruled by a thick beam of stars",
    ),
    "weak_bar": (
        "a galaxy with a weak bar",
        "a short and faint bar in the middle of a disk",
        "a weakly barred disk galaxy",
        "a disk with a hint of a small beam of stars",
    ),
    "no_bar": (
        "a disk galaxy without a bar",
        "an unbarred disk",
        "a disk with a round centre and no bar",
        "a disk that is not crossed by any beam of stars",
    ),
    "barred_spiral": (
        "a barred spiral galaxy",
        "a spiral whose arms start at the ends of a bar",
        "a disk galaxy with a bar and spiral arms",
        "curved arms hanging on a straight beam of stars",
    ),
    "no_bulge": (
        "a disk galaxy without a bulge",
        "a pure disk with no central bulge",
        "a bulgeless disk",
        "a disk whose centre is no brighter than the rest",
    ),
    "small_bulge": (
        "a disk galaxy with a small bulge",
        "a just noticeable bulge in a disk",
        "a disk with a tiny bright centre",
        "a disk that dwarfs the ball at its centre",
    ),
    "moderate_bulge": (
        "a disk galaxy with a moderate bulge",
        "an obvious bulge in a disk",
        "a disk with a bright centre of medium size",
        "a disk with a clear ball at its centre",
    ),
    "large_bulge": (
        "a disk galaxy with a large bulge",
        "a big bulge in a disk",
        "a disk with a wide bright centre",
        "a disk around a huge ball of stars",
    ),
    "dominant_bulge": (
        "a disk galaxy with a dominant bulge",
        "a bulge that outshines its disk",
        "a bright bulge with a faint rim of a disk",
        "almost nothing but the ball of stars at the centre",
    ),
    "undisturbed": (
        "an undisturbed galaxy, not merging",
        "a regular galaxy without tails or debris",
        "an isolated galaxy with no sign of a merger",
        "a calm galaxy that nothing has pulled at",
    ),
    "minor_disturbance": (
        "a slightly disturbed galaxy",
        "a galaxy with a minor disturbance",
        "a disk that is a little lopsided",
        "a galaxy that has been pulled at weakly",
    ),
    "major_disturbance": (
        "a strongly disturbed galaxy",
        "a galaxy with a major disturbance",
        "a distorted body with a tidal tail",
        "a galaxy that has been torn out of shape",
    ),
    "merger": (
        "two merging galaxies",
        "a pair of galaxies that collide",
        "a merger in progress",
        "two galaxies falling into each other",
    ),
    "tidal_debris": (
        "a galaxy with tidal debris",
        "tidal tails and streams around a galaxy",
        "a galaxy with long curved tails of stars",
        "a galaxy with torn out streams of stars",
    ),
    "merger_with_debris": (
        "merging galaxies with tidal debris",
        "a collision of two galaxies that throws out tails",
        "a merging pair with tidal tails",
        "two galaxies falling into each other amid streams of stars",
    ),
    "disturbed": (
        "a disturbed galaxy",
        "a distorted and lopsided galaxy, perhaps after a merger",
        "a galaxy with an asymmetric outline and a companion",
        "a galaxy pulled out of shape by a neighbour",
    ),
    "overlapping": (
        "two overlapping galaxies",
        "a galaxy in front of another one, not interacting",
        "a chance alignment of two galaxies",
        "one galaxy that covers part of one behind it",
    ),
    "ring": (
        "a ring galaxy",
        "a galaxy with a bright ring",
        "a ring of stars around a centre",
        "a bright hoop around a core",
    ),
    "no_ring": (
        "a galaxy without a ring",
        "no ring around the centre",
        "a disk in which no ring is seen",
        "a galaxy that lacks any hoop",
    ),
    "lens_arc": (
        "a gravitational lens with an arc",
        "a blue arc around a red galaxy",
        "a galaxy whose mass bends the light of one behind it into arcs",
        "a strong lens, images curved around a massive galaxy",
    ),
    "irregular": (
        "an irregular galaxy",
        "a clumpy galaxy without order",
        "a dwarf of blue patches with no regular shape",
        "a shapeless galaxy of scattered star clouds",
    ),
    "odd": (
        "an odd galaxy, something unusual",
        "a strange object that fits no class",
        "a peculiar thing seen by chance",
        "something rare that has no name here",
    ),
}
"""Canonical class name to four noun phrases of our own; the last is held out of training."""


def class_prompts(name: str) -> list[str]:
    """The sentences that a class is trained with and that its text prototype is the mean of.

    Raises
    ------
    UnknownClassError
        If the class is not known; the message lists those that are.
    """
    trained = DESCRIPTIONS[canonical_class(name)][:-1]
    return [sentence for description in trained for sentence in sentences(description)]


def sentences(words: str) -> list[str]:
    """Any noun phrase in each of the sentences that the text encoder was trained with."""
    return [template.format(words) for template in TEMPLATES]


def held_out_prompts(name: str) -> list[str]:
    """Sentences of the same class that no training sees."""
    return [template.format(DESCRIPTIONS[canonical_class(name)][-1]) for template in TEMPLATES]
