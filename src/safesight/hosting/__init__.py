"""A model with its defenses, answering many callers at once: one copy of the weights, batches.

Read next: `arms` (a model's defenses and their identity), `hosts` (the thread that answers), and
`batching` (how requests come together). Evaluations, other tools, the server and the web app all
answer through here, and nothing here knows any of them.
"""
