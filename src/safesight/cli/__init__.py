"""The command line: one file a verb, put together in `main`.

Commands parse and print; what they do is done by the rooms below. Everything heavy is
imported inside a command, so that help and lists are instant.
"""
