"""Both back ends of the image processor under the library's common image-processing tests."""

import subprocess
import sys
import tempfile
import unittest

import numpy as np
from source import models_conftest, upstream

from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import (
    PMCCambrianImageProcessorPil,
    complete_towers,
)
from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor

image_processing_common = upstream("test_image_processing_common")

WITHOUT_TORCHVISION = """
import sys
sys.modules["torchvision"] = None  # any import of it now fails
import numpy as np
from transformers import AutoImageProcessor

folder = sys.argv[1]
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
assert type(processor).__name__ == "PMCCambrianImageProcessorPil", type(processor)
assert "semihv_hf" not in sys.modules
images = np.load(f"{folder}/images.npz")
np.savez(f"{folder}/outputs.npz", **processor([images[name] for name in images.files]))
"""


class PMCCambrianImageProcessingTester(image_processing_common.ImageProcessingTester):
    """The small towers, and a window for wide images that is not the default."""

    def __init__(self, parent):
        towers = complete_towers(models_conftest()["TINY_TOWERS"])
        super().__init__(parent, towers=towers, window_percentiles=[1.0, 99.0])

    def _get_image_processing_classes(self):
        return {"torchvision": PMCCambrianImageProcessor, "pil": PMCCambrianImageProcessorPil}

    def expected_output_image_shape(self, images):
        """That of `pixel_values`, the SigLIP tower's: a square, whatever the image."""
        return self.num_channels, self.towers["siglip"]["size"], self.towers["siglip"]["size"]


class PMCCambrianImageProcessingTest(image_processing_common.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = PMCCambrianImageProcessingTester
    test_cast_dtype = True

    def assertEqual(self, first, second, msg=None):
        """Two back ends write `auto_map` differently: a folder loads with the back end that it was saved with."""
        if self._testMethodName.startswith("test_save_load_backends") and isinstance(first, dict):
            first, second = ({key: each[key] for key in each if key != "auto_map"} for each in (first, second))
        super().assertEqual(first, second, msg)

    def test_override_instance_attributes_does_not_affect_other_instances(self):
        """The library's test changes `size` and `image_mean`; here these belong to a tower."""
        for image_processing_class in self.image_processing_classes.values():
            changed, other = image_processing_class(), image_processing_class()
            changed.towers["siglip"]["size"] = -1
            changed.towers["clip"]["mean"][0] = -1
            for unchanged in (other, image_processing_class()):
                self.assertEqual(unchanged.towers["siglip"]["size"], 384)
                self.assertGreater(unchanged.towers["clip"]["mean"][0], 0)

    def test_pil_can_run_without_torchvision(self):
        """The library's version loads a class of its own; ours is code beside the saved settings, to be trusted."""
        images = self.image_processor_tester.prepare_image_inputs(equal_resolution=False, numpify=True)
        processor = PMCCambrianImageProcessorPil(**self.image_processor_dict)
        expected = processor(images)
        with tempfile.TemporaryDirectory() as folder:
            processor.save_pretrained(folder)
            np.savez(f"{folder}/images.npz", *images)
            done = subprocess.run([sys.executable, "-c", WITHOUT_TORCHVISION, folder], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = np.load(f"{folder}/outputs.npz")
            self.assertEqual(set(found), set(expected))
            for key in found:
                np.testing.assert_array_equal(found[key], expected[key])
