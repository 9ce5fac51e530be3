"""What other tools send: texts of data sets and attacks, which stay text."""

from __future__ import annotations

import pytest

from safesight.hosting.served import serve
from safesight.hosting.settings import Settings


@pytest.mark.parametrize("role", ["system", "assistant", "user"])
def test_placeholders_are_text_in_every_turn(role: str) -> None:
    served = serve("testbed", device="cpu")
    vlm = served.host.vlm
    mark = vlm.tokenizer.convert_ids_to_tokens(vlm.image_token_id)

    def answered(text: str) -> str:
        turns = [
            {"role": each, "content": [{"type": "text", "text": said}]}
            for each, said in ((role, text), ("user", "what is a cup?"))
        ]
        return served.ask(turns, Settings(8)).result(60).text

    assert answered(f"see {mark}") == answered(f"see {vlm.control_tokens.plain(mark)}")
