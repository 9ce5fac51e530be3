"""Self-contained HTML pages: a scorecard with its conversations, a layer report, a transfer matrix.

Reads data and writes text. It measures nothing and loads no model; pictures are rendered again
from their benchmark. Start at `html.py` or `layer_page.py`; the first can include the figures of
the second.
"""

from __future__ import annotations

from safesight.report.adaptive import adaptive_columns, adaptive_notes, attack_of
from safesight.report.best_of import budget_note, tries_columns, tries_notes
from safesight.report.html import Beside, render, write_report
from safesight.report.layer_figures import head_sentence
from safesight.report.layer_file import read_layers
from safesight.report.layer_page import (
    layer_sentence,
    layer_table,
    render_layers,
    write_layers,
)
from safesight.report.sentence import best_defense, interval_note, verdict_sentence
from safesight.report.transfer_page import read_transfer, transfer_sentence, write_transfer
from safesight.report.words import extremes_note, holm_note

__all__ = [
    "Beside",
    "adaptive_columns",
    "adaptive_notes",
    "attack_of",
    "best_defense",
    "budget_note",
    "extremes_note",
    "head_sentence",
    "holm_note",
    "interval_note",
    "layer_sentence",
    "layer_table",
    "read_layers",
    "read_transfer",
    "render",
    "render_layers",
    "transfer_sentence",
    "tries_columns",
    "tries_notes",
    "verdict_sentence",
    "write_layers",
    "write_report",
    "write_transfer",
]
