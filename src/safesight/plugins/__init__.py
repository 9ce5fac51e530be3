"""Protected models inside other tools: one file for each tool, which only that tool imports.

Each file translates the tool's conversations and settings; `safesight.hosting.served` answers.
"""
