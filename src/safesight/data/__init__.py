"""Your own data: files of prompts, checked row by row, as samples that everything else takes.

`schema` says what a row may hold, `records` reads files, `samples` turns rows into samples, `split`
divides them by group, and `balance` looks for what gives a label away besides the request.
"""

from safesight.data.samples import Data, read_data
from safesight.data.schema import COLUMNS, Row
from safesight.data.split import SPLITS, Split, split_by_group
from safesight.data.task import OwnTask, add_task

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Data",
    "OwnTask",
    "Row",
    "Split",
    "add_task",
    "read_data",
    "split_by_group",
]
