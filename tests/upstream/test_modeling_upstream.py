"""PMC-Cambrian under the library's common model tests."""

import tempfile
import unittest
from unittest.mock import patch

import torch
from source import upstream
from tiny_cambrian import small_towers_config

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import num_image_tokens
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration, PMCCambrianModel

modeling_common = upstream("test_modeling_common")

# (height, width): a square, a wide and a high image, so that each row holds another number of image tokens.
IMAGE_SIZES = ((64, 64), (40, 100), (120, 50))
PAD, BOS, IMAGE = 0, 1, 6


class PMCCambrianModelTester:
    """Makes the small model and its inputs: one image of another shape and some text in each row, padded left."""

    is_training = True

    def __init__(self, parent, batch_size: int = 3, freeze_vision_towers: bool = True):
        self.parent = parent
        self.batch_size = batch_size
        self.freeze_vision_towers = freeze_vision_towers
        text = self.get_config().text_config
        self.num_hidden_layers = text.num_hidden_layers
        self.hidden_size = text.hidden_size
        self.num_attention_heads = text.num_attention_heads
        self.vocab_size = text.vocab_size
        self.seq_length = 30

    def get_config(self):
        return small_towers_config(
            text_config={**TEXT, "num_hidden_layers": 2},
            sva_config={**SVA, "sampler_stride": 1},
            freeze_vision_towers=self.freeze_vision_towers,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        generator = torch.Generator().manual_seed(0)
        sizes = [IMAGE_SIZES[row % len(IMAGE_SIZES)] for row in range(self.batch_size)]
        shape = (self.batch_size, self.seq_length)
        input_ids = torch.randint(IMAGE + 1, self.vocab_size, shape, generator=generator)
        attention_mask = torch.ones_like(input_ids)
        for row, (height, width) in enumerate(sizes):
            image_tokens = num_image_tokens(height, width, config.sva_config.query_side)
            input_ids[row, :row] = PAD
            attention_mask[row, :row] = 0
            input_ids[row, row] = BOS
            start = row + 2
            input_ids[row, start : start + image_tokens] = IMAGE
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "image_sizes": torch.tensor(sizes)}
        for key, tower in PIXELS.items():
            side = getattr(config, tower).image_size
            inputs[key] = torch.randn((self.batch_size, 3, side, side), generator=generator)
        return config, inputs


PIXELS = {
    "pixel_values": "siglip_config",
    "pixel_values_clip": "clip_config",
    "pixel_values_dino": "dino_config",
    "pixel_values_convnext": "convnext_config",
}
TEXT = small_towers_config().text_config.to_diff_dict()
SVA = small_towers_config().sva_config.to_diff_dict()


class PMCCambrianModelTest(modeling_common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (PMCCambrianModel, PMCCambrianForConditionalGeneration)
    additional_model_inputs = [*PIXELS, "image_sizes"]
    _is_composite = True
    # Image tokens leave as one list entry for each image, of different lengths; there is no one last hidden state.
    skip_test_image_features_output_shape = True

    def setUp(self):
        # These comparisons lengthen the batch to seven with random values, which fit no image and no image token.
        whole_batch = "test_eager_matches_sdpa_inference" in self._testMethodName
        # Frozen towers are not checkpointed, and a tower is the first layer that these tests look at.
        train_towers = "test_training_gradient_checkpointing" in self._testMethodName
        self.model_tester = PMCCambrianModelTester(
            self, batch_size=7 if whole_batch else 3, freeze_vision_towers=not train_towers
        )
        # The tests look up what a class is for by its name in the library's own tables.
        for table, model_class in (
            (modeling_common.MODEL_MAPPING_NAMES, PMCCambrianModel),
            (modeling_common.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, PMCCambrianForConditionalGeneration),
        ):
            entry = patch.dict(table, {model_class.config_class.model_type: model_class.__name__})
            entry.start()
            self.addCleanup(entry.stop)

    def test_sdpa_can_dispatch_composite_models(self):
        """The library's test looks for one tower; it asks models with other parts to bring a version of their own."""
        for model_class in self.all_model_classes:
            config, _ = self.model_tester.prepare_config_and_inputs_for_common()
            with tempfile.TemporaryDirectory() as folder:
                model_class(config).save_pretrained(folder)
                for implementation in ("sdpa", "eager"):
                    model = model_class.from_pretrained(folder, attn_implementation=implementation).base_model
                    parts = [model, model.language_model]
                    parts += [getattr(model.vision_towers, name) for name in ("siglip", "clip", "dino")]
                    for part in parts:
                        self.assertEqual(part.config._attn_implementation, implementation, type(part).__name__)
                self.assertEqual(model_class.from_pretrained(folder).config._attn_implementation, "sdpa")
