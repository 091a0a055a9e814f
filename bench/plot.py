"""Plots of results, as SVG that does not change when the figures do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

LINES = {
    "batch_ns": ("ovnk, batches", "o-"),
    "dpdk_avx2_ns": ("DPDK ACL, AVX2, batches", "s-"),
    "single_ns": ("ovnk, single", "o--"),
    "pytricia_ns": ("pytricia and a first-match chain, single", "^--"),
}


def by_rule_count(figures: Mapping[int, Mapping[str, float]], path: Path) -> None:
    """Rule count -> ns per lookup of each line, both axes logarithmic, written to ``path``."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "ovnk", "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for name, (label, style) in LINES.items():
        axes.plot(list(figures), [each[name] for each in figures.values()], style, label=label)
    axes.set(xscale="log", yscale="log", xlabel="rules (realistic set, hits)", ylabel="ns per lookup")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
