"""Draw docs/peak-lr-annealing.png: valleys of the bundled studies under CompleteP over width, a panel a recipe.

python scripts/draw_valleys.py docs/peak-lr-annealing.png
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from lehr.peaklr.comparison import compare_ways
from lehr.peaklr.study_table import read_study
from lehr.report.comparison import valleys
from lehr.report.draw_matplotlib import draw, to_png

STUDIES = {
    "dense": "ratio .4, init_std .1",
    "dense-zero": "ratio .9, init_std .1",
    "dense-init": "ratio .4, init_std .02",
}
RULE = "completep"
LIMITS = (0.006, 0.17)  # of the LR, so that all panels have the same axis


def main() -> None:
    """Draw one panel a study and say in words what is on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    found = compare_ways(read_study(Path(str(files("lehr.examples") / "peak_lr_study.csv"))))
    axes = {axis.study: axis for axis in found.axes if axis.axis == "width"}
    charts = [valleys(replace(axes[study], levels={RULE: axes[study].levels[RULE]})) for study in STUDIES]
    panels = tuple(
        replace(chart.panels[0], title=title, x=replace(chart.panels[0].x, limits=LIMITS))
        for chart, title in zip(charts, STUDIES.values(), strict=True)
    )
    alt = " ".join(f"{title}: {chart.alt}" for chart, title in zip(charts, STUDIES.values(), strict=True))
    picture = to_png(draw(replace(charts[0], panels=panels, columns=len(panels), alt=alt)))
    parser.parse_args().picture.write_bytes(picture)
    print(alt)


if __name__ == "__main__":
    main()
