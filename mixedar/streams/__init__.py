"""
Rows that are read batch by batch: files, relations, lazy and distributed frames.

What a source is and how its rows come, nothing of models: a model asks for columns,
for rows of which each group is whole, and says what to make of such rows and how two
results become one.
"""

from mixedar.streams.scan import as_source, scan
from mixedar.streams.seen import Seen
from mixedar.streams.source import Source

__all__ = ["Seen", "Source", "as_source", "scan"]
