"""Generates the parts of the documentation that must not drift: `python -m scripts.docs [--check]`.

- `cli_pages`  docs/cli.md from the live help of every command;
- `reference`  docs/reference.md, every public name with its first sentence;
- `figure`     docs/figures/demo.svg from a committed scorecard;
- `fills`      numbers, tables and outputs between two markers in any Markdown file.

`pages` combines them. Nothing here is part of the installed package.
"""
