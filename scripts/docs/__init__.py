"""Writes the parts of the documentation that must not drift: `python -m scripts.docs [--check]`.

- `cli_pages`  docs/reference/cli.md from the live help of every command;
- `reference`  docs/reference/api.md, every public name with its first sentence;
- `demo_texts` docs/results/demo.txt and demo_all.txt, what the demo prints, from scorecards;
- `figure`     docs/figures/demo.svg from a committed scorecard;
- `fills`      numbers, tables and outputs between two markers in any Markdown file.

`pages` combines them. Nothing here is part of the installed package.
"""
