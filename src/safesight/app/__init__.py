"""A page on which people ask a model about pictures, with and without defenses.

Read next: `asking` (what happens to a question), `drawing` (how the result becomes a page), and
`serving` (who may reach it). Gradio appears in `page` and `serving` alone.
"""
