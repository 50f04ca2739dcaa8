"""PMC-Cambrian once more, from the specification: one query at a time, on the padded layout, with the released keys.

Slow and plain on purpose. It shares no code with the package, so that agreeing with it means something. The image has
`side` rows of `side` cells and a newline; cells that hold padding are masked and take no position.
"""

import math

import torch
from torch.nn import functional as F

TOWERS = {
    "siglip": "siglip/CLIP-ViT-SO400M-14-384",
    "clip": "openai/clip-vit-large-patch14-336",
    "dino": "facebook/dinov2-giant-res378",
    "convnext": "clip-convnext-XXL-multi-stage",
}
HEADS = 16


def released_config(towers=tuple(TOWERS), dims=(12, 16, 20, 24), sides=(4, 4, 4, 8), **changes) -> dict:
    """A small configuration in the released form."""
    config = {
        "architectures": ["CambrianLlamaForCausalLM"],
        "model_type": "cambrian_llama",
        "mm_projector_type": "sva",
        "mm_vision_select_layer": -2,
        "mm_vision_tower_aux_list": [TOWERS[name] for name in towers],
        "mm_vision_tower_aux_token_len_list": [side * side for side in sides],
        "tower_dims": list(dims),
        "vision_hidden_size": 32,
        "image_token_len": 16,
        "query_num_list": [16],
        "num_query_group": 1,
        "connector_depth": 2,
        "connector_only": False,
        "num_of_vision_sampler_layers": 2,
        "start_of_vision_sampler_layers": 0,
        "stride_of_vision_sampler_layers": 2,
        "image_position": 5,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return config | changes


def released_weights(config: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """All tensors of a released checkpoint, N(0, 0.2)."""
    width, text, dims = config["vision_hidden_size"], config["hidden_size"], config["tower_dims"]
    head = text // config["num_attention_heads"]
    shapes = {"model.image_newline": [text], "model.vision_query": [len(config["query_num_list"]), width]}
    for name, rows in (("0", [text, width * len(config["query_num_list"])]), ("2", [text, text])):
        shapes |= {f"model.mm_projector.{name}.weight": rows, f"model.mm_projector.{name}.bias": [text]}
    for tower, dim in enumerate(dims):
        key = f"model.mm_projector_aux_{tower}"
        shapes |= {f"{key}.0.weight": [width, dim], f"{key}.2.weight": [width, width], f"{key}.3.weight": [width]}
        shapes |= {f"{key}.{part}.bias": [width] for part in (0, 2, 3)}

    def layer(key: str, query_width: int, side: int):
        shapes[f"{key}.proj_context.weight"] = [width, width]
        shapes[f"{key}.proj_in.weight"] = [width, query_width + width]
        shapes[f"{key}.norm.weight"] = shapes[f"{key}.norm.bias"] = [width]
        shapes[f"{key}.proj_out.linear_1.weight"] = [width, width]
        shapes[f"{key}.proj_out.linear_2.weight"] = [query_width, width]
        shapes[f"{key}.cross_attn.o_proj.weight"] = [width, width]
        for part in ["q_proj", *(f"{kind}_proj_{tower}" for kind in "kv" for tower in range(len(dims)))]:
            shapes[f"{key}.cross_attn.{part}.0.weight"] = shapes[f"{key}.cross_attn.{part}.0.bias"] = [width]
            shapes[f"{key}.cross_attn.{part}.1.weight"] = [width, width]
        for tower, cells in enumerate(config["mm_vision_tower_aux_token_len_list"]):
            ratio = math.isqrt(cells) // side
            if ratio > 1:
                shapes[f"{key}.pos_embed_{tower}"] = [ratio * ratio, width]

    for group, cells in enumerate(config["query_num_list"]):
        for index in range(config["connector_depth"]):
            layer(f"model.vision_sampler_{group}.layers.{index}", width, math.isqrt(cells))
    for index in range(0 if config["connector_only"] else config["num_of_vision_sampler_layers"]):
        layer(f"model.vision_sampler_layers.{index}.layers.0", text, math.isqrt(config["image_token_len"]))
    shapes["model.embed_tokens.weight"] = shapes["lm_head.weight"] = [config["vocab_size"], text]
    shapes["model.norm.weight"] = [text]
    for index in range(config["num_hidden_layers"]):
        key, inner = f"model.layers.{index}", config["intermediate_size"]
        shapes[f"{key}.input_layernorm.weight"] = shapes[f"{key}.post_attention_layernorm.weight"] = [text]
        shapes[f"{key}.self_attn.q_proj.weight"] = shapes[f"{key}.self_attn.o_proj.weight"] = [text, text]
        for part in "kv":
            shapes[f"{key}.self_attn.{part}_proj.weight"] = [config["num_key_value_heads"] * head, text]
        shapes[f"{key}.mlp.gate_proj.weight"] = shapes[f"{key}.mlp.up_proj.weight"] = [inner, text]
        shapes[f"{key}.mlp.down_proj.weight"] = [text, inner]
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) * 0.2 for key, shape in sorted(shapes.items())}


def span(width: int, height: int, side: int) -> tuple[range, range]:
    """Rows and columns of the grid that hold pixels, in the original's order of operations."""
    if width / height > 1.0:
        padding = (side - int(height * (side / width))) // 2
        return range(padding, side - padding), range(side)
    padding = (side - int(width * (side / height))) // 2
    return range(side), range(padding, side - padding)


class Reference:
    """
    One image and its prompt through the model.

    Args:
        config (`dict`): a released configuration.
        weights (`dict[str, torch.Tensor]`): its tensors.
    """

    def __init__(self, config: dict, weights: dict[str, torch.Tensor]):
        self.config, self.weights = config, weights
        self.side = math.isqrt(config["image_token_len"])
        self.tower_sides = [math.isqrt(cells) for cells in config["mm_vision_tower_aux_token_len_list"]]

    def linear(self, key: str, x):
        return F.linear(x, self.weights[f"{key}.weight"], self.weights.get(f"{key}.bias"))

    def layer_norm(self, key: str, x):
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{key}.weight"], self.weights[f"{key}.bias"], 1e-5)

    def windows(self, features, row: int, column: int, side: int, size: tuple[int, int]):
        """What query (row, column) sees of each tower, and which of it counts."""
        seen, counts = [], []
        for feature, tower_side in zip(features, self.tower_sides):
            ratio = tower_side // side
            rows, columns = span(*size, tower_side)
            cells = [(row * ratio + i, column * ratio + j) for i in range(ratio) for j in range(ratio)]
            inside = [i in rows and j in columns for i, j in cells]
            seen.append(torch.stack([feature[i * tower_side + j] for i, j in cells]))
            counts.append(inside if any(inside) else [True] * len(cells))
        return seen, counts

    def attend(self, key: str, x, context, seen, counts):
        """One cross-attention layer for one query."""
        query = self.linear(f"{key}.proj_in", torch.cat([x, self.linear(f"{key}.proj_context", context)]))
        attention, width = f"{key}.cross_attn", query.shape[0]
        heads = (-1, HEADS, width // HEADS)
        keys, values = [], []
        for tower, window in enumerate(seen):
            if f"{key}.pos_embed_{tower}" in self.weights:
                window = window + self.weights[f"{key}.pos_embed_{tower}"]
            for kind, into in (("k", keys), ("v", values)):
                part = f"{attention}.{kind}_proj_{tower}"
                into.append(self.linear(f"{part}.1", self.layer_norm(f"{part}.0", window)))
        k, v = torch.cat(keys).view(heads), torch.cat(values).view(heads)
        q = self.linear(f"{attention}.q_proj.1", self.layer_norm(f"{attention}.q_proj.0", query)).view(heads[1:])
        scores = torch.einsum("hd,nhd->hn", q, k) / math.sqrt(width // HEADS)
        scores = scores.masked_fill(~torch.tensor(sum(counts, [])), -math.inf)
        mixed = torch.einsum("hn,nhd->hd", scores.softmax(-1), v).flatten()
        query = query + self.linear(f"{attention}.o_proj", mixed)
        hidden = F.gelu(self.linear(f"{key}.proj_out.linear_1", self.layer_norm(f"{key}.norm", query)))
        return x + self.linear(f"{key}.proj_out.linear_2", hidden)

    def slots(self, features, size: tuple[int, int]):
        """All `side * (side + 1)` slots of the image, and which of them are real."""
        projected = []
        for tower, feature in enumerate(features):
            key = f"model.mm_projector_aux_{tower}"
            hidden = self.linear(f"{key}.2", F.gelu(self.linear(f"{key}.0", feature)))
            projected.append(self.layer_norm(f"{key}.3", hidden))
        context = projected[0].mean(0)
        groups = []
        for group, cells in enumerate(self.config["query_num_list"]):
            side, queries = math.isqrt(cells), []
            for row in range(side):
                for column in range(side):
                    x = self.weights["model.vision_query"][group]
                    seen, counts = self.windows(projected, row, column, side, size)
                    for index in range(self.config["connector_depth"]):
                        x = self.attend(f"model.vision_sampler_{group}.layers.{index}", x, context, seen, counts)
                    queries.append(x)
            grid = torch.stack(queries).T.view(1, -1, side, side)
            if side != self.side:
                grid = F.interpolate(grid, size=(self.side, self.side), mode="bilinear", align_corners=False)
            groups.append(grid[0].flatten(1).T)
        tokens = torch.cat(groups, -1)
        tokens = self.linear("model.mm_projector.2", F.gelu(self.linear("model.mm_projector.0", tokens)))
        rows, columns = span(*size, self.side)
        slots, real = [], []
        for row in range(self.side):
            for column in range(self.side):
                slots.append(tokens[row * self.side + column])
                real.append(row in rows and column in columns)
            slots.append(self.weights["model.image_newline"])
            real.append(row in rows)
        return torch.stack(slots), torch.tensor(real), projected, context

    def rms_norm(self, key: str, x):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return x * scale * self.weights[f"{key}.weight"]

    def decoder_layer(self, index: int, x, positions, allowed):
        key, heads = f"model.layers.{index}", self.config["num_attention_heads"]
        head = x.shape[-1] // heads
        frequency = self.config["rope_theta"] ** (-torch.arange(0, head, 2) / head)
        angle = torch.cat([positions[:, None] * frequency] * 2, -1)

        def turn(y):  # (length, heads, head)
            half = torch.cat([-y[..., head // 2 :], y[..., : head // 2]], -1)
            return y * angle.cos()[:, None] + half * angle.sin()[:, None]

        normed = self.rms_norm(f"{key}.input_layernorm", x)
        q, k, v = (self.linear(f"{key}.self_attn.{part}_proj", normed).unflatten(-1, (-1, head)) for part in "qkv")
        repeat = heads // self.config["num_key_value_heads"]
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        scores = torch.einsum("qhd,khd->hqk", turn(q), turn(k)) / math.sqrt(head)
        mixed = torch.einsum("hqk,khd->qhd", scores.masked_fill(~allowed, -math.inf).softmax(-1), v).flatten(1)
        x = x + self.linear(f"{key}.self_attn.o_proj", mixed)
        normed = self.rms_norm(f"{key}.post_attention_layernorm", x)
        gate = F.silu(self.linear(f"{key}.mlp.gate_proj", normed)) * self.linear(f"{key}.mlp.up_proj", normed)
        return x + self.linear(f"{key}.mlp.down_proj", gate)

    def __call__(self, features, size, before: list[int], after: list[int], image_position: int | None = None):
        """
        Args:
            features (`list[torch.Tensor]`): for each tower `(cells, dim)`.
            size (`tuple[int, int]`): width and height of the image.
            before (`list[int]`): tokens before the image.
            after (`list[int]`): tokens behind it.
            image_position (`int`, *optional*): where the samplers take the image to be, by default where it is.

        Returns:
            `tuple`: the real image tokens `(tokens, hidden)` and the logits of all real tokens `(length, vocab)`.
        """
        slots, real, projected, context = self.slots(features, size)
        embed = self.weights["model.embed_tokens.weight"]
        x = torch.cat([embed[before], slots, embed[after]])
        valid = torch.cat([torch.ones(len(before), dtype=bool), real, torch.ones(len(after), dtype=bool)])
        positions = (valid.cumsum(0) - 1).clamp(min=0)
        # A masked row may look at itself: its result is never read, and must not be NaN.
        allowed = torch.ones(len(x), len(x)).tril().bool() & (valid[None] | torch.eye(len(x)).bool())
        start, stride = self.config["start_of_vision_sampler_layers"], self.config["stride_of_vision_sampler_layers"]
        count = 0 if self.config["connector_only"] else self.config["num_of_vision_sampler_layers"]
        first = len(before) if image_position is None else image_position
        for index in range(self.config["num_hidden_layers"]):
            x = self.decoder_layer(index, x, positions, allowed)
            sampler = next((k for k in range(count) if start + k * stride == index), None)
            if sampler is None:
                continue
            x = x.clone()
            for row in range(self.side):
                for column in range(self.side):
                    place = first + row * (self.side + 1) + column
                    if place < len(x):
                        seen, counts = self.windows(projected, row, column, self.side, size)
                        key = f"model.vision_sampler_layers.{sampler}.layers.0"
                        x[place] = self.attend(key, x[place], context, seen, counts)
        logits = self.linear("lm_head", self.rms_norm("model.norm", x))
        return slots[real], logits[valid]
