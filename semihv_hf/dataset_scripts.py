"""Lets the builders in the resource folder `dataset_scripts/` be imported by name.

`datasets` imports a builder as a module, in worker processes too. The folder lies outside the package in a checkout,
so this module takes it as the place where its sub-modules are: `semihv_hf.dataset_scripts.semihvision.builder`.
"""

from semihv_hf.resources import resource_dir

__path__ = [str(resource_dir("dataset_scripts"))]
