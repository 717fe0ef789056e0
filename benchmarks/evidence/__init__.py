"""The study behind `docs/results.md`: the jobs of `benchmarks/study.py` and the report on them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))  # the embedded data, and how the demo trains a teacher
