"""What trains beside adapters is float32, so that small updates are not rounded away."""

import torch
from peft import LoraConfig, get_peft_model
from small_cambrian import small_batch, small_model, small_processor

from semihv_hf.training.lora import LORA_TARGETS, lora_modules_to_save, train_in_float32


def test_modules_that_train_in_full_beside_adapters_become_float32_and_move(tiny_text_model, picture):
    processor = small_processor(tiny_text_model)
    model = small_model(processor).to(torch.bfloat16)
    config = LoraConfig(
        r=4, target_modules=LORA_TARGETS, modules_to_save=lora_modules_to_save(model.config), task_type="CAUSAL_LM"
    )
    wrapped = get_peft_model(model, config)
    trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    # PEFT widens its adapters only.
    assert {p.dtype for name, p in trained.items() if ".lora_" in name} == {torch.float32}
    assert {p.dtype for name, p in trained.items() if ".lora_" not in name} == {torch.bfloat16}
    assert train_in_float32(wrapped) == sum(".lora_" not in name for name in trained) > 0
    assert {p.dtype for p in wrapped.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in wrapped.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert train_in_float32(wrapped) == 0

    # A rate at which bfloat16 weights would not move: every connector matrix does.
    batch = small_batch(processor, [picture(60, 40)], ["Is this an axial MRI?"])
    watched = {n: p.detach().clone() for n, p in trained.items() if "connector" in n and p.ndim == 2}
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-6, weight_decay=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wrapped(**batch).loss.backward()
    optimizer.step()
    moved = [name for name, before in watched.items() if not torch.equal(trained[name], before)]
    assert len(moved) == len(watched) > 0
    same = sum((trained[name].bfloat16() == watched[name].bfloat16()).sum() for name in moved)
    assert same > 0.9 * sum(before.numel() for before in watched.values())
