"""Puts the publishable folders at the root of the repository into the wheel as package data."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RESOURCE_FOLDERS = ("dataset_scripts", "metrics", "model_cards", "recipes")


class ResourceFolders(BuildHookInterface):
    """An editable installation reads the folders where they are, so only the standard wheel gets copies."""

    def initialize(self, version: str, build_data: dict) -> None:
        if version != "standard":
            return
        for name in RESOURCE_FOLDERS:
            build_data["force_include"][f"{self.root}/{name}"] = f"semihv_hf/_resources/{name}"
        # `semihv doctor` compares what is installed with the tested versions.
        build_data["force_include"][f"{self.root}/constraints.txt"] = "semihv_hf/_resources/constraints.txt"
