"""Colours keep their contrast and stay apart, also for readers who see two colours less."""

import itertools

import numpy as np
import pytest

from lehr.report.palette import DASHES, MARKERS, THEMES

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB
SEEN = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}  # fmt: skip
APART = 0.09  # in OKLab; the palette of Okabe and Ito keeps .076


def linear(colour):
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    one = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    two = np.array([[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.808675766]])  # fmt: skip
    return two @ np.cbrt(one @ np.clip(rgb, 0, 1))


def contrast(one, other):
    light = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (one, other))
    return light[1] / light[0]


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_colour_stands_out_from_its_background(theme):
    assert all(contrast(c, theme.background) >= 3 for c in (*theme.colours, theme.quiet))
    assert contrast(theme.ink, theme.background) >= 7


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("eye", SEEN)
def test_colours_stay_apart(theme, eye):
    places = [oklab(np.array(SEEN[eye]) @ linear(colour)) for colour in theme.colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > APART


def test_dashes_and_markers_differ_as_often_as_colours():
    for theme in THEMES.values():
        assert len(set(DASHES)) == len(set(MARKERS)) == len(set(theme.colours)) == 6
