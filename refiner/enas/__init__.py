"""Section 3 of the paper: joint and alternating search of operators and skips, as in ENAS.

Shared weights of a macro network and a joint controller come in; the measurements of figure 1 and
table 1 go out. Nothing in the rest of the library depends on this package.
"""
