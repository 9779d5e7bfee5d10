"""What :func:`repgeom.data.load` returns: named tuples of NumPy arrays, with a sentence on where they come from.

``torch.from_numpy(hands.joints)`` makes a tensor of an array without a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Planes(NamedTuple):
    """ShapeNet aeroplanes as point clouds.

    Axes: x along the fuselage, y up, z along the wings. ShapeNet's own unit, in which the mean aeroplane is 0.70 long;
    coordinates were stored in half precision.
    """

    train: np.ndarray
    """(2290, 1024, 3) float32: cloud, point, coordinate"""
    test: np.ndarray
    """(399, 1024, 3) float32"""
    provenance: str
    """which 1024 points of each cloud these are"""


class Cifar10(NamedTuple):
    """CIFAR-10, channels first, in the order of the files."""

    train_images: np.ndarray
    """(50000, 3, 32, 32) uint8, RGB, 0 to 255"""
    train_labels: np.ndarray
    """(50000,) int64, 0 to 9"""
    test_images: np.ndarray
    """(10000, 3, 32, 32) uint8"""
    test_labels: np.ndarray
    """(10000,) int64"""
    classes: tuple[str, ...]
    """the ten names, by label"""
    provenance: str
    """the official archive, or a lossy re-encoding of it"""


class Cifar100(NamedTuple):
    """CIFAR-100, channels first, in the order of the files; each image has a class and one of twenty superclasses."""

    train_images: np.ndarray
    """(50000, 3, 32, 32) uint8, RGB, 0 to 255"""
    train_labels: np.ndarray
    """(50000,) int64, 0 to 99"""
    test_images: np.ndarray
    """(10000, 3, 32, 32) uint8"""
    test_labels: np.ndarray
    """(10000,) int64"""
    train_superlabels: np.ndarray
    """(50000,) int64, 0 to 19: five classes each"""
    test_superlabels: np.ndarray
    """(10000,) int64"""
    classes: tuple[str, ...]
    """the hundred names, by label"""
    superclasses: tuple[str, ...]
    """the twenty names, by superlabel"""
    provenance: str
    """the official archive"""


class Mnist(NamedTuple):
    """The test set of MNIST."""

    images: np.ndarray
    """(10000, 28, 28) uint8, 0 paper to 255 ink"""
    labels: np.ndarray
    """(10000,) int64, 0 to 9"""
    provenance: str
    """where the files come from"""


class Omniglot(NamedTuple):
    """Characters of eight alphabets, each drawn once by twenty people.

    The two archives hold five alphabets each and share Greek and Latin, file by file; each drawing is here once.
    """

    images: np.ndarray
    """(4840, 105, 105) uint8, 0 paper, 1 ink"""
    labels: np.ndarray
    """(4840,) int64: index into ``characters``"""
    alphabets: np.ndarray
    """(4840,) int64: index into ``alphabet_names``"""
    drawers: np.ndarray
    """(4840,) int64: 0 to 19, the person within the alphabet"""
    characters: tuple[str, ...]
    """``"Balinese/character01"`` and so on, in the order of the archives"""
    alphabet_names: tuple[str, ...]
    """the alphabets in the order of the characters"""
    provenance: str
    """where the files come from"""


class Ssvep(NamedTuple):
    """MAMEM-SSVEP-II: pre-processed EEG of people who look at a box that flickers at one of five frequencies."""

    trials: np.ndarray
    """(subjects, 500, 8, 125) float64: subject, trial, channel, sample"""
    labels: np.ndarray
    """(subjects, 500) int64, 0 to 4: which of the five frequencies; 100, 100, 120, 100, 80 trials of each"""
    subjects: tuple[int, ...]
    """the subjects' numbers, 1 to 11"""
    provenance: str
    """where the files come from"""


class Hands(NamedTuple):
    """Hand skeletons of two gestures."""

    joints: np.ndarray
    """(53, 22, 3) float64: hand, joint, coordinate, in metres; joint 0 is the wrist, joint 1 the palm"""
    labels: np.ndarray
    """(53,) int64: 0 "grab" (26 hands), 1 "expand" (27 hands)"""
    bones: np.ndarray
    """(21, 2) int64: parent, child"""
    gestures: tuple[str, ...]
    """("grab", "expand")"""
    provenance: str
    """where the files come from"""


class Emg(NamedTuple):
    """Electrical activity of a forearm's muscles while the hand holds one of five gestures."""

    signal: np.ndarray
    """(731682, 8) float32: sample, electrode; counts of the armband, 0 to 255, at rest about 128"""
    time: np.ndarray
    """(731682,) int64: time stamp as it stands in the file (a few units per sample); starts anew in each recording"""
    labels: np.ndarray
    """(731682,) int64: index into ``gestures``"""
    recordings: np.ndarray
    """(731682,) int64: index into ``recording_names``"""
    gestures: tuple[str, ...]
    """("ok", "paper", "rest", "rock", "scissors")"""
    recording_names: tuple[str, ...]
    """("mg_s1", "mg_s2", "rr_s1", "rr_s2"): two people, two sessions each"""
    provenance: str
    """where the file comes from"""


class Connectomes(NamedTuple):
    """Functional connectivity of the brains of patients and controls at rest."""

    matrices: np.ndarray
    """(86, 28, 28) float64: correlations between 28 brain networks, ones on the diagonal, positive definite"""
    labels: np.ndarray
    """(86,) int64: 0 control (46), 1 patient (40)"""
    patients: np.ndarray
    """(86,) int64: the number of the person in the original challenge"""
    provenance: str
    """where the files come from"""
