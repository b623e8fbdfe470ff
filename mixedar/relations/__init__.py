"""How the levels of a factor are related: pedigrees, neighbours, places."""

from mixedar.relations.field import Field
from mixedar.relations.neighbours import CAR, ICAR
from mixedar.relations.relationship import Relationship

__all__ = ["CAR", "ICAR", "Field", "Relationship"]
