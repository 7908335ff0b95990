"""Colours that can be seen: against the page, and from one another by eyes that miss one of three cones."""

import itertools
import re

import numpy as np
import pytest

from orrery.report.page import asset

pytestmark = pytest.mark.unit

#: Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def palettes():
    blocks = re.findall(r"\{(--bg:[^}]+)\}", asset("report.css"))
    found = [dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]+)", block)) for block in blocks]
    assert len(found) == 3 and found[1] == found[2]  # the dark one is written for the system's wish and for the button
    return {"light": found[0], "dark": found[1]}


def linear(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    v = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    x, y = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (y + 0.05) / (x + 0.05)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-4))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_marks_stand_out(theme):
    palette = palettes()[theme]
    for name in ("fg", "soft", "link", "bad"):
        assert contrast(palette[name], palette["bg"]) >= 4.5, name  # WCAG 1.4.3
    assert contrast(palette["soft"], palette["card"]) >= 4.5 and contrast(palette["fg"], palette["mark"]) >= 4.5
    for i in range(6):
        assert contrast(palette[f"c{i}"], palette["bg"]) >= 3, i  # WCAG 1.4.11


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_first_colours_differ_to_every_eye(theme, sight):
    """Marks differ in shape and lines in dashes as well, so colour never stands alone."""
    palette = palettes()[theme]
    seen = [lab(np.clip(SIGHT[sight] @ linear(palette[f"c{i}"]), 0, 1)) for i in range(4)]
    apart = {(i, j): float(np.linalg.norm(seen[i] - seen[j])) for i, j in itertools.combinations(range(4), 2)}
    assert min(apart.values()) > 10, apart
