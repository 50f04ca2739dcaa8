"""Which of the library's common tests do not run against PMC-Cambrian, and why; keys are names or `*` patterns."""

from fnmatch import fnmatchcase

_NO_TEXT_FEATURES = "has no get_text_features: text only enters through the language model"
_NO_AUDIO = "takes no audio"
_NO_VIDEO = "takes no video"
_NO_CLASSIFIER = "has no classification head"
_NO_FP32_MODULES = "has no module that must stay in float32, so the list under test is empty"
_TOWERS = (
    "runs four towers of different depth and width: get_image_features returns image tokens, and there is no one "
    "sequence of hidden states or attentions to return beside them"
)
_NO_EXPERTS = "has no mixture of experts"
_NO_GENERATION_MIXIN = (
    "the library's generation tests (tests/generation) are not in its source distribution; "
    "tests/models covers generation"
)

_GPU = "needs a GPU"
_GPUS = "needs several GPUs"
_DEEPSPEED = "needs the extra deepspeed and a GPU"
_FLASH = "needs a GPU and the package flash-attn of this generation"
_KERNELS = "needs a GPU and the package kernels"
_MPS = "needs an Apple GPU and the package kernels"

_PROCESSOR = {
    "test_*_videos": _NO_VIDEO,
    "test_*_audio": _NO_AUDIO,
    "test_apply_chat_template_audio_*": _NO_AUDIO,
    "test_apply_chat_template_decoded_video*": _NO_VIDEO,
    "test_apply_chat_template_video*": _NO_VIDEO,
    "test_chat_template_audio_from_video": _NO_VIDEO,
    "test_chat_template_audio_sampling_rate": _NO_AUDIO,
    "test_get_num_multimodal_tokens_matches_processor_call_video": _NO_VIDEO,
    "test_apply_chat_template_tool_calls_no_content": "has no tools: PMC-Cambrian was not trained to call any",
}

# Never run: the model or processor has no such thing, by design.
NOT_APPLICABLE: dict[str, dict[str, str]] = {
    "PMCCambrianModelTest": {
        "test_get_text_features_*": _NO_TEXT_FEATURES,
        "test_get_audio_features_*": _NO_AUDIO,
        "test_get_video_features_*": _NO_VIDEO,
        "test_get_image_features_hidden_states": _TOWERS,
        "test_get_image_features_attentions": _TOWERS,
        "test_problem_types": _NO_CLASSIFIER,
        "test_load_with_mismatched_shapes": _NO_CLASSIFIER,
        "test_can_load_ignoring_mismatched_shapes": _NO_CLASSIFIER,
        "test_keep_in_fp32_modules": _NO_FP32_MODULES,
        "test_keep_in_fp32_modules_exist": _NO_FP32_MODULES,
        "test_save_load_keys_to_ignore_on_save": "saves every key, so the list under test is empty",
        "test_encoder_decoder_loss_no_double_shift": "is no encoder-decoder: it has no decoder_input_ids",
        "test_eager_matches_batched_and_grouped_inference_*": _NO_EXPERTS,
        "test_moe_models_record_router_logits": _NO_EXPERTS,
        "test_output_router_logits_from_config": _NO_EXPERTS,
        "test_resize_position_vector_embeddings": "has rotary positions, hence no position embeddings to resize",
        "test_sliding_window_mask": "has no sliding-window attention",
        "test_sdpa_can_dispatch_non_composite_models": "is composite: test_sdpa_can_dispatch_composite_models runs",
        "test_vision_axial_rope": "its towers have learned positions, no axial rotary ones",
        "test_model_rope_with_partial_rotation": "rotates all of a head: Llama has no partial_rotary_factor",
        "test_generation_tester_mixin_inheritance": _NO_GENERATION_MIXIN,
    },
    "PMCCambrianImageProcessingTest": {
        "test_call_numpy_4_channels": "reads four channels as colour and transparency, and has statistics by tower",
        "test_image_processor_preprocess_arguments": (
            "declares its arguments as a typed dict, checked by test_valid_kwargs_set, and has no list to compare"
        ),
    },
    "PMCCambrianLlama3ProcessorTest": _PROCESSOR,
    "PMCCambrianChatmlProcessorTest": _PROCESSOR,
}

# Run wherever the hardware or package is there; may skip themselves elsewhere.
NEEDS: dict[str, dict[str, str]] = {
    "PMCCambrianModelTest": {
        "test_cpu_offload": _GPU,
        "test_disk_offload_*": _GPU,
        "test_can_load_with_device_context_manager": _GPU,
        "test_can_load_with_global_device_set": _GPU,
        "test_flex_attention_with_grads": _GPU,
        "test_sdpa_can_compile_dynamic": _GPU,
        "test_sdpa_can_dispatch_on_flash": _GPU,
        "test_torch_compile_for_training": _GPU,
        "test_model_parallelism": _GPUS,
        "test_resize_*_with_deepspeed": _DEEPSPEED,
        "test_resize_*_with_deepspeed_multi_gpu": _DEEPSPEED,
        "test_flash_attn_kernels_inference_equivalence": _KERNELS,
        "test_kernels_can_load_without_crashing": _KERNELS,
        "test_flash_attn_kernels_mps_inference_equivalence": _MPS,
        "test_flash_attn_[234]_*": _FLASH,
    },
    "PMCCambrianImageProcessingTest": {"test_can_compile_torchvision_backend": _GPU},
}

# Wrong on our side, not mended yet. One that passes makes the run fail, so that its entry goes.
KNOWN_FAILURES: dict[str, dict[str, str]] = {}

TABLES = {"never run": NOT_APPLICABLE, "needs more": NEEDS, "known failure": KNOWN_FAILURES}


def find(table: dict[str, dict[str, str]], test_class: str, name: str) -> str | None:
    """The reason that a table gives for one test, `None` where it names no such test."""
    for pattern, reason in table.get(test_class, {}).items():
        if fnmatchcase(name, pattern):
            return reason
    return None
