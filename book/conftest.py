"""How nbval compares a chapter's outputs with the stored ones.

It knows how to replace parts of a text by patterns only. `tools/outputs.py`
says what has to stay the same.
"""

from nbval.plugin import IPyNbCell

from tools.outputs import comparable

IPyNbCell.sanitize = lambda cell, text: comparable(text)
