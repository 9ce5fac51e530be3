"""Read, change and measure hidden states of a decoder. Pure torch; knows nothing about VLMs.

Read next: `sites` (names of places), `reading` (`capture`), `editing` (`edit`), `replaying`
(rerun blocks), `hooks` (where all of these act), `directions`, `probes` and `heads` (measure).
"""

from safesight.activations.directions import cosine, difference_of_means, project, unit
from safesight.activations.editing import EditFn, ablate, add, edit
from safesight.activations.heads import leading_angle, silence_head
from safesight.activations.hooks import hooked
from safesight.activations.probes import (
    LinearProbe,
    RocArea,
    Threshold,
    auroc,
    threshold_at_fpr,
)
from safesight.activations.reading import capture
from safesight.activations.replaying import BlockCall, record_calls, replay
from safesight.activations.sites import (
    Blocks,
    Place,
    Site,
    TokenSelector,
    last_of,
    resid_post,
    resid_pre,
)

__all__ = [
    "BlockCall",
    "Blocks",
    "EditFn",
    "LinearProbe",
    "Place",
    "RocArea",
    "Site",
    "Threshold",
    "TokenSelector",
    "ablate",
    "add",
    "auroc",
    "capture",
    "cosine",
    "difference_of_means",
    "edit",
    "hooked",
    "last_of",
    "leading_angle",
    "project",
    "record_calls",
    "replay",
    "resid_post",
    "resid_pre",
    "silence_head",
    "threshold_at_fpr",
    "unit",
]
