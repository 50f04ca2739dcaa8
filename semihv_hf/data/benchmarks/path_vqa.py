"""PathVQA: questions made from the captions of pathology textbooks and a digital library (He et al., 2020)."""

from .base import Expected
from .vqa_rad import ImageQuestionAnswer


class PathVqa(ImageQuestionAnswer):
    """PathVQA as `flaviagiammarino/path-vqa`: 19,654 training, 6,259 validation and 6,719 test questions.

    LLaVA-Med and others report on 6,761 test questions (3,370 open, 3,391 closed), 42 more than the Hub copy has, so
    numbers on the two differ slightly. Closed is yes or no. Some images are CMYK JPEGs; they are stored as RGB.
    """

    name = "path_vqa"
    title = "PathVQA"
    hub_id = "flaviagiammarino/path-vqa"
    splits = ("train", "validation", "test")
    expected = {
        ("test", "all"): Expected(6719),
        ("validation", "all"): Expected(6259),
        ("train", "all"): Expected(19654),
    }
