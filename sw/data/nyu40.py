"""The 40 classes of NYU Depth v2 (Gupta, Arbelaez and Malik, CVPR 2013) and the 894 labels behind them.

37 of the classes are labels of their own; every other label is one of three remainders: structure, furniture, or (the
most) a prop. The table is the benchmark's ``classMapping40.mat``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LABELS = 894

_OWN = (
    ("wall", 21),
    ("floor", 11),
    ("cabinet", 3),
    ("bed", 157),
    ("chair", 5),
    ("sofa", 83),
    ("table", 19),
    ("door", 28),
    ("window", 59),
    ("bookshelf", 88),
    ("picture", 64),
    ("counter", 7),
    ("blinds", 80),
    ("desk", 36),
    ("shelves", 42),
    ("curtain", 89),
    ("dresser", 169),
    ("pillow", 119),
    ("mirror", 122),
    ("floor mat", 143),
    ("clothes", 141),
    ("ceiling", 4),
    ("books", 85),
    ("refrigerator", 17),
    ("television", 172),
    ("paper", 15),
    ("towel", 135),
    ("shower curtain", 123),
    ("box", 26),
    ("whiteboard", 45),
    ("person", 331),
    ("night stand", 158),
    ("toilet", 124),
    ("sink", 24),
    ("lamp", 144),
    ("bathtub", 136),
    ("bag", 55),
)
"""Name and label of each class that is one label."""

NAMES = (*(name for name, _ in _OWN), "other structure", "other furniture", "other prop")

# fmt: off
_STRUCTURE = (
    8, 25, 33, 38, 51, 53, 57, 58, 62, 65, 79, 94, 104, 112, 134, 153, 215, 216, 223, 225, 238, 241, 242, 256,
    295, 301, 339, 342, 354, 363, 372, 380, 392, 408, 412, 453, 456, 463, 477, 497, 541, 550, 553, 567, 573,
    582, 591, 609, 612, 615, 642, 645, 657, 658, 659, 663, 667, 668, 686, 700, 702, 777, 778, 782, 850, 861,
    868, 874,
)
_FURNITURE = (
    12, 43, 48, 50, 87, 106, 111, 161, 163, 174, 183, 204, 214, 219, 221, 224, 236, 262, 278, 291, 298, 313,
    343, 344, 356, 359, 373, 393, 401, 414, 418, 419, 430, 443, 444, 447, 448, 457, 458, 460, 462, 475, 479,
    485, 486, 493, 494, 498, 499, 509, 510, 515, 521, 524, 540, 549, 551, 554, 556, 558, 576, 580, 608, 625,
    703, 734, 770, 772, 797, 800, 803, 804, 813, 814, 815, 820, 829, 835, 858, 863, 882, 892,
)
# fmt: on


def class_numbers() -> NDArray[np.int64]:
    """Class 1 to 40 of each label 0 to 894; label 0 is unlabelled and stays 0."""
    numbers = np.full(LABELS + 1, len(NAMES), np.int64)
    numbers[0] = 0
    for number, (_, label) in enumerate(_OWN, 1):
        numbers[label] = number
    numbers[list(_STRUCTURE)] = len(NAMES) - 2
    numbers[list(_FURNITURE)] = len(NAMES) - 1
    return numbers
