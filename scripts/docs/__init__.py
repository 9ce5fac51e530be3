"""Writes what in the documentation must not drift: `python -m scripts.docs [--check]`.

- `cli_pages`  docs/reference/cli.md from the live help of every command;
- `reference`  docs/reference/api.md, every public name with its first sentence;
- `figure`     docs/figures/demo.svg from a committed scorecard;
- `fills`      numbers, tables and outputs between two markers in any Markdown file.

`pages` puts them together. Nothing here is part of the installed package.
"""
