"""The plot of `--plot`: what one conversion costs, for each vq pair."""

from __future__ import annotations

from pathlib import Path


def write(path: Path, ns: dict[str, dict[tuple[int, int], float]]) -> None:
    """A PNG with one panel per source length; `ns` holds nanoseconds by peer and (source, destination) length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(4, 4, sharex=True, sharey=True, figsize=(13, 10), layout="constrained")
    for src_vq, panel in enumerate(panels.flat, start=1):
        for name, costs in ns.items():
            lengths = [dst_vq for src, dst_vq in costs if src == src_vq]
            panel.plot(lengths, [costs[src_vq, dst_vq] for dst_vq in lengths], ".-", label=name)
        panel.set(title=f"from vq {src_vq}", xticks=range(2, 17, 2), yscale="log")
        panel.grid(alpha=0.3)
    figure.supxlabel("to vq")
    figure.supylabel("nanoseconds per state")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(ns))
    figure.savefig(path, dpi=110)
