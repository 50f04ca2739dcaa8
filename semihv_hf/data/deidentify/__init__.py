"""DICOM headers without what names a person, by the rules of PS3.15 Annex E, and what was done recorded in each file.

dicognito replaces identifiers, names, UIDs and dates consistently under a secret; the table of attributes of the Basic
Profile comes from dicom-anonymizer. What is not promised stands in `docs/imaging.md`.
"""

from .dataset import Deidentified, deidentify_dataset
from .folder import deidentify_folder

__all__ = ["Deidentified", "deidentify_dataset", "deidentify_folder"]
