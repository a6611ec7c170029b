"""``itk-ncr export``: export a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from itk_ncr.cli import options
from itk_ncr.errors import InputError


class _Size(click.ParamType):
    """Two or three whole numbers with an x between."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split("x")
        if len(words) not in (2, 3) or not all(word.isdecimal() for word in words):
            self.fail(f"{value!r} is not a size, as 160x192 or 96x112x96", param, ctx)
        return tuple(int(word) for word in words)


@click.command()
@click.argument("model")
@options.output_file("ONNX file to write.")
@click.option(
    "--size",
    type=_Size(),
    metavar="[Zx]YxX",
    help="Only for images of this size, in array order: multiples of 16, as 160x192 or 96x112x96 "
    "(other programs can then optimise more). Default: any size; the file pads to multiples of 16 "
    "itself.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def export(model: str, output: Path, size: tuple[int, ...] | None, overwrite: bool) -> None:
    """Write MODEL as an ONNX file, up to its velocities and masks.

    MODEL is the name of one that comes with the package ("itk-ncr models list"), or the folder of
    one of your own: ncr-net, regnet, or ncr-pyramid in 2D. Needs the extra onnx:
    pip install "itk_ncr[onnx]".

    Inputs are "fixed" and "moving", (N, 1, z, y, x), background 0 and bright tissue 1 as made by
    itk_ncr.preprocessing.normalise. Outputs are "velocity_0" (the finest) to "velocity_2", at half
    the resolution of their scale and in its voxels, and "noncorrespondence_0" to "_2". Images whose
    size is not a multiple of 16 are padded by their far borders, and so are the outputs: cut the
    field and the mask back to the size of the image at the end. The file's metadata say the same.
    """
    if output.suffix != ".onnx":
        raise InputError(f"output must end in .onnx; got '{output}'.")
    if output.exists() and not overwrite:
        raise InputError(f"'{output}' exists. Give another name, or --overwrite.")
    if not output.parent.is_dir():
        raise InputError(f"'{output.parent}' must be a folder; it does not exist.")

    from itk_ncr.checkpoints import load_model
    from itk_ncr.networks import write_onnx

    network, description = load_model(model)
    write_onnx(network, output, size=size)
    click.echo(f"{output}: {description.network}, {description.dimension}D")
