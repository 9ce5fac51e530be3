"""Curves lie inside their drawing, on one scale, and ticks are round numbers."""

from __future__ import annotations

import pytest

from safesight.report.line_plot import Curve, Panel, Scale, draw_panels


def test_a_scale_puts_large_values_up_and_a_logarithmic_one_down() -> None:
    plain = Scale.of([0.0, 1.0])
    assert plain.at(1.0) < plain.at(0.5) < plain.at(0.0)
    assert plain.at(0.5) == pytest.approx((plain.at(0.0) + plain.at(1.0)) / 2)
    ranks = Scale.of([1.0, 100.0], log=True)
    assert ranks.at(1.0) < ranks.at(10.0) < ranks.at(100.0)
    assert ranks.at(10.0) == pytest.approx((ranks.at(1.0) + ranks.at(100.0)) / 2, abs=0.2)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[0.3, 1.03], [-7.6, 12.9], [1.0, 1.0], [148.0, 168.0], [1.0, 250_000.0], [0.02]]
)
def test_every_scale_has_some_round_ticks_inside_it(values: list[float], log: bool) -> None:
    values = [max(value, 1.0) for value in values] if log else values
    scale = Scale.of(values, log=log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 6
    assert ticks == sorted(set(ticks))
    assert all(0 <= scale.at(tick) <= 210 for tick in ticks)
    assert all(f"{tick:g}" == f"{tick:.3g}" or tick >= 1000 for tick in ticks)


@pytest.mark.parametrize("layers", [1, 2, 8, 33, 80])
def test_panels_share_their_scale_and_keep_everything_inside(layers: int) -> None:
    ramp = [float(i) for i in range(layers)]
    low, high = [v - 3 for v in ramp], [v + 3 for v in ramp]
    first = Panel("a", [Curve("a", ramp, low, high)], others=[high])
    second = Panel("b", [Curve("b", [5.0] * layers)])
    drawn = draw_panels([first, second], marks=[-20.0], span=[99.0])
    assert [panel.up for panel in drawn] == [drawn[0].up] * 2
    for panel in drawn:
        texts = [
            *panel.others,
            *(part for line in panel.lines for part in (line.points, line.band)),
        ]
        places = [tuple(map(float, place.split(","))) for text in texts for place in text.split()]
        assert all(panel.left <= x <= panel.right and 0 <= y <= panel.floor for x, y in places)
        assert panel.left <= panel.across[0][0] <= panel.across[-1][0] <= panel.right
        assert len(panel.across) <= 10
        assert all(0 <= y <= panel.floor for y in panel.marks)
    assert len(drawn[0].lines[0].dots) == layers
    assert drawn[1].lines[0].band == ""
