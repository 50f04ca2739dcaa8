"""One rank of test_fsdp2.py: PMC-Cambrian sharded by torch's `fully_shard` against the same model in one piece."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small_cambrian import small_model, small_processor
from tiny_families import row
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.text_only import TextOnlyCollator


def loss_of(model, batch, tokens):
    batch = dict(batch)
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch, use_cache=False).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / tokens


def layers(model):
    """What the accelerate file names, found by class."""
    names = Path(sys.argv[2]).read_text().split("fsdp_transformer_layer_cls_to_wrap:")[1].split("\n")[0].strip()
    wanted = set(names.split(","))
    found = [module for module in model.modules() if type(module).__name__ in wanted]
    return found, wanted - {type(module).__name__ for module in found}


def written_whole(model, whole, folder: Path) -> tuple[int, int]:
    """A step of both, then what accelerate gathers, saved and loaded: tensors, and those that agree."""
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    for one in (model, whole):
        torch.optim.SGD(one.parameters(), lr=0.1).step()
    # The call of `Accelerator.get_state_dict` under FSDP2.
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    if dist.get_rank():
        return 0, 0
    model.save_pretrained(folder, state_dict=state)
    loaded = type(whole).from_pretrained(folder).state_dict()
    expected = whole.state_dict()
    assert loaded.keys() == expected.keys()
    assert sum(not torch.allclose(value, before[name], atol=1e-4) for name, value in expected.items()) > 20
    agree = {name for name, value in expected.items() if torch.allclose(value, loaded[name], atol=1e-5)}
    return len(expected), len(agree)


def main() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    rows = [
        [row("image", "Is this a CT?", images=[image]), row("image", "A plane?", answer="Axial.", images=[image])],
        [row("What is a lesion?", answer="A change."), row("Is it so?", answer="Yes, it is.")],
    ]
    processor = small_processor(sys.argv[1])
    collator = VisionCollator(processor)
    whole = small_model(processor).train()
    whole.requires_grad_(True)
    model = small_model(processor).train()
    model.requires_grad_(True)

    everything = collator(rows[0] + rows[1])
    tokens = int((everything["labels"] != -100).sum())
    expected = loss_of(whole, everything, tokens)
    expected.backward()

    mesh = init_device_mesh("cpu", (world,))
    groups, unknown = layers(model)
    for module in groups:
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    batch = TextOnlyCollator(collator, processor)(rows[rank])
    # FSDP averages over ranks.
    loss = loss_of(model, batch, tokens) * world
    loss.backward()
    shared = loss.detach() / world
    dist.all_reduce(shared)

    worst, compared, idle = 0.0, 0, []
    for (name, parameter), reference in zip(model.named_parameters(), whole.parameters(), strict=True):
        if reference.grad is None:
            idle.append(name)
            continue
        gradient = parameter.grad.full_tensor()
        scale = reference.grad.abs().max().clamp(min=1e-3)
        worst = max(worst, float(((gradient - reference.grad) / scale).abs().max()))
        compared += 1
    gathered, same = written_whole(model, whole, Path(sys.argv[3]).with_name("gathered"))
    if rank == 0:
        result = {
            "gathered": gathered,
            "same": same,
            "loss": float(shared),
            "expected": float(expected.detach()),
            "worst": worst,
            "compared": compared,
            "idle": idle,
            "groups": len(groups),
            "unknown": sorted(unknown),
            "sharded": all(hasattr(parameter, "full_tensor") for parameter in model.parameters()),
        }
        Path(sys.argv[3]).write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
