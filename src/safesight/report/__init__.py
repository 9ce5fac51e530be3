"""One self-contained HTML page from a scorecard and its conversations.

Reads data, writes text. It measures nothing and loads no model; pictures are drawn
again from the benchmark they came from. Start at `html.py`.
"""

from __future__ import annotations

from safesight.report.html import render, write_report
from safesight.report.sentence import best_defense, verdict_sentence

__all__ = ["best_defense", "render", "verdict_sentence", "write_report"]
