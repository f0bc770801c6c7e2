"""Which contact field goes to which remote field, and how."""

from onward.fieldmap.bound import BoundMap, Mapped
from onward.fieldmap.map import FieldMap
from onward.fieldmap.suggest import suggest

__all__ = ["BoundMap", "FieldMap", "Mapped", "suggest"]
