"""A model with its defenses behind HTTP: an OpenAI-compatible server and a guardrail for gateways.

What may reach the model is decided in small parts that know nothing of it: `access` (keys and host
names), `limits` (bodies), `json_bodies`, `pictures` and `downloads` (what a URL may name).
`decision_log` and `metrics` record what was decided; `guardrail` answers gateways.
"""
