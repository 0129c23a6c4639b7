#!/usr/bin/env python3
"""Prints how the figures of two sides compare: bench_ratios.py DIRECTORY.

The directory has before-N.json and after-N.json, as `bench` writes them. A ratio above 1 means
that the "after" side is better, whether the figure is a rate or a cost.
"""

import json
import pathlib
import statistics
import sys


def read(directory, side):
    """Returns the figures of one side: name -> (unit, goal, values)."""
    figures = {}
    for file in sorted(directory.glob(f"{side}-*.json")):
        for figure in json.loads(file.read_text())["figures"]:
            known = figures.setdefault(figure["name"], (figure["unit"], figure["goal"], []))
            known[2].append(figure["value"])
    return figures


def more_is_better(unit, goal):
    return goal.startswith("≥") or (not goal and (unit == "tps" or unit.endswith("/s")))


def shown(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def main():
    directory = pathlib.Path(sys.argv[1])
    before, after = read(directory, "before"), read(directory, "after")
    print("| figure | before | after | unit | ratio | turns |\n| --- | ---: | ---: | --- | ---: | ---: |")
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            side = "after" if name in after else "before"
            print(f"| {name} | | | | only {side} | |")
            continue
        unit, goal, old = before[name]
        new = after[name][2]
        a, b = statistics.median(old), statistics.median(new)
        better, worse = (b, a) if more_is_better(unit, goal) else (a, b)
        ratio = f"{better / worse:.3f}" if worse else ""
        print(f"| {name} | {shown(a)} | {shown(b)} | {unit} | {ratio} | {len(old)}+{len(new)} |")


if __name__ == "__main__":
    main()
