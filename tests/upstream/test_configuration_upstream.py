"""The configurations of PMC-Cambrian under the library's common configuration tests."""

import unittest

from source import upstream
from tiny_cambrian import small_towers_config

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import (
    PMCCambrianConfig,
    PMCCambrianConvNextConfig,
    PMCCambrianSvaConfig,
)

ConfigTester = upstream("test_configuration_common").ConfigTester


class SmallConfig:
    """Where the tests find a configuration with other values than the defaults."""

    @staticmethod
    def get_config():
        return small_towers_config()


class PMCCambrianConfigTest(unittest.TestCase):
    model_tester = SmallConfig()

    def test_config(self):
        tester = ConfigTester(self, config_class=PMCCambrianConfig, has_text_modality=False, image_token_id=7)
        tester.run_common_tests()


class PMCCambrianSvaConfigTest(unittest.TestCase):
    model_tester = SmallConfig()

    def test_config(self):
        tester = ConfigTester(
            self,
            config_class=PMCCambrianSvaConfig,
            has_text_modality=False,
            common_properties=["hidden_size", "num_attention_heads", "num_layers"],
            hidden_size=48,
            num_samplers=2,
        )
        tester.run_common_tests()


class PMCCambrianConvNextConfigTest(unittest.TestCase):
    model_tester = SmallConfig()

    def test_config(self):
        tester = ConfigTester(
            self,
            config_class=PMCCambrianConvNextConfig,
            has_text_modality=False,
            common_properties=["hidden_sizes", "depths", "image_size"],
            hidden_sizes=[4, 6],
            depths=[1, 2],
        )
        tester.run_common_tests()
