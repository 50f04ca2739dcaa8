"""Verbs that turn and serve checkpoints."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import example, say


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(epilog=example("semihv serve runs/quickstart/checkpoints/3_annealing --port 8000"))(serve)
    app.command(
        epilog=example(
            "semihv convert cambrian-8b pmc-cambrian-8b --siglip timm/ViT-SO400M-14-SigLIP-384 "
            "--clip openai/clip-vit-large-patch14-336 --dinov2 facebook/dinov2-giant --dtype bfloat16"
        )
    )(convert)


def serve(
    model: Annotated[str, typer.Argument(help="A checkpoint folder or Hub id; requests give it as the model's name.")],
    host: Annotated[str, typer.Option(help="Address to listen on. Nothing asks clients who they are.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on, 0 for any free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="Another name for requests to give.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Type of the weights. auto: the checkpoint's own."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0, ...")] = "auto",
) -> None:
    """Answer image questions over HTTP: an OpenAI-compatible server that keeps a `response_format`."""
    from semihv_hf.serving import serve as serve_model

    serve_model(model, host, port, name=name, dtype=dtype, device=device)


def convert(
    source: Annotated[Path, typer.Argument(help="Folder of a released Cambrian or PMC-Cambrian checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    base_model: Annotated[
        str | None, typer.Option(help="The Llama model below a connector that was trained on its own.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder or Hub id. By default the checkpoint's own.")] = None,
    siglip: Annotated[str | None, typer.Option(help="SigLIP tower to attach: folder or Hub id.")] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP tower to attach.")] = None,
    dinov2: Annotated[str | None, typer.Option(help="DINOv2 tower to attach.")] = None,
    convnext: Annotated[str | None, typer.Option(help="ConvNeXt tower to attach.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="By default every tensor keeps its own.")
    ] = None,
    legacy_image_position: Annotated[
        int | None, typer.Option(min=0, help="Reproduce samplers that read the sequence at this fixed place.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest file, and the memory it takes.")] = "5GB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Turn a released checkpoint into one that transformers loads."""
    from semihv_hf.models.convert_cambrian import convert_checkpoint

    report = convert_checkpoint(
        source,
        out,
        base_model=base_model,
        tokenizer=tokenizer,
        siglip=siglip,
        clip=clip,
        dinov2=dinov2,
        convnext=convnext,
        dtype=dtype,
        legacy_image_position=legacy_image_position,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        progress=True,
    )
    say(f"Wrote {out}: {report['parameters']['total']:,} parameters from {report['keys']} keys.")
