"""Which images fall first, under which attack, and whether they are the same for every model."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.attacks import ATTACK, IDENTITY, _attacks
from dosimeter.analysis.base import answered, each_seed, plain
from dosimeter.analysis.flips import flip_epsilon
from dosimeter.analysis.intervals import FloatArray, Statistic, bootstrap_by_group
