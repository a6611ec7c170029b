"""``itk-ncr train``: train a model for ``itk-ncr register --model``."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itk_ncr import runs
from itk_ncr.cli.console import INTERRUPTED, note
from itk_ncr.cli.interruption import Interruption, training_progress
from itk_ncr.cli.options import output_folder, quiet_option, seed_option
from itk_ncr.errors import InputError
from itk_ncr.settings import ARCHITECTURES, BUDGETS, PRECISIONS, RECIPES, SCHEDULES, VARIANTS
from itk_ncr.tables import cell

if TYPE_CHECKING:
    from itk_ncr.data import Manifest
    from itk_ncr.training import Recipe

MODEL, SPLIT = "model", "split.csv"
# Options that change the settings of a recipe under the same name.
CHANGES = (
    "variant",
    "architecture",
    "steps",
    "batch",
    "accumulate",
    "learning_rate",
    "schedule",
    "averaging",
    "precision",
    "head_warm_up",
)
_COUNT = click.IntRange(min=1)
_SHARE = click.FloatRange(0, 1, max_open=True)


@click.command()
@click.argument("images", type=click.Path(path_type=Path))
@output_folder("Folder of the training; made if it does not exist, resumed if it holds this one.")
@click.option(
    "--preset", type=click.Choice(RECIPES), required=True, help="Settings by kind of image."
)
@click.option(
    "--budget",
    type=click.Choice(BUDGETS),
    default="small",
    show_default=True,
    help="small: feasible on a CPU; full: the full length of the preset.",
)
@click.option("--variant", type=click.Choice(VARIANTS), help="Default: that of the preset.")
@click.option(
    "--architecture", type=click.Choice(ARCHITECTURES), help="Network. Default: that of the preset."
)
@click.option("--steps", type=_COUNT, metavar="N", help="Steps of the optimiser.")
@click.option("--batch", type=_COUNT, metavar="N", help="Batch size of a step, over all processes.")
@click.option("--accumulate", type=_COUNT, metavar="N", help="Batches accumulated per step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), metavar="X")
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    help="Learning rate schedule: steps of one fifth, or half a cosine down to a hundredth.",
)
@click.option(
    "--averaging",
    type=_SHARE,
    metavar="DECAY",
    help="Keep a moving average of the weights with this decay, 0.999 say, as the result.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Precision of the convolutions.")
@click.option(
    "--head-warm-up",
    type=click.IntRange(min=0),
    metavar="N",
    help="Steps in which only the new mask head is trained (ncr-s).",
)
@click.option("--width", type=_COUNT, metavar="N", help="Channels at full resolution.")
@click.option(
    "--dropout",
    type=_SHARE,
    metavar="SHARE",
    help="Fraction of decoder features dropped at random (for uncertainty maps).",
)
@click.option("--reduce", type=_COUNT, metavar="N", help="Train on voxels N times as large.")
@click.option(
    "--ignore-labels",
    metavar="N,N,...",
    help="Label values to ignore, as 0 is. Default: those that the CSV names.",
)
@click.option(
    "--lesions",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Fraction of images that get a synthetic lesion.",
)
@click.option(
    "--remapped",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Fraction of pairs shown in a random contrast, for robustness to other contrasts.",
)
@click.option(
    "--lesion-masks",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of masks for the shapes of inserted lesions. Default: random blobs.",
)
@click.option(
    "--start",
    metavar="MODEL",
    help="Initial weights: a model by name or folder, for example one of synthetic pairs.",
)
@seed_option
@click.option(
    "--val",
    type=_SHARE,
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Fraction of validation patients, where the images come without a split.",
)
@click.option(
    "--test",
    type=_SHARE,
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Fraction of test patients, likewise.",
)
@click.option("--fold", metavar="I/K", help="Instead: test on the I-th of K parts of the patients.")
@click.option(
    "--validate-every", type=_COUNT, default=500, show_default=True, metavar="N", help="Steps."
)
@click.option("--name", help="Of the model. Default: that of DIR.")
@click.option("--contrast", metavar="WORD", help="Contrast of the images, for the model's card.")
@click.option("--licence", metavar="TEXT", help="Licence of the images, for the model's card.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=_COUNT, metavar="N", help="CPU threads.")
@click.option("--dry-run", is_flag=True, help="Check the images, say what would be done, and stop.")
@quiet_option
@click.pass_context
def train(
    context: click.Context,
    images: Path,
    output: Path,
    preset: str,
    budget: str,
    width: int | None,
    dropout: float | None,
    reduce: int | None,
    ignore_labels: str | None,
    lesions: float | None,
    remapped: float | None,
    lesion_masks: Path | None,
    start: str | None,
    seed: int,
    val: float,
    test: float,
    fold: str | None,
    validate_every: int,
    name: str | None,
    contrast: str | None,
    licence: str | None,
    device: str,
    threads: int | None,
    dry_run: bool,
    quiet: bool,
    **changes: Any,
) -> None:
    """Train a network on IMAGES.

    IMAGES is a folder, or a CSV: subject, image and optionally labels, lesion, split, group,
    ignore_labels; or subject, fixed, moving for given pairs. All images are read and checked before
    training starts. In a folder NAME_seg belongs to NAME as its label map. All label values but 0
    count, unless --ignore-labels or the column ignore_labels says otherwise.

    \b
    DIR/model/             the model: `itk-ncr register FIXED MOVING -o OUT --model DIR/model`
    DIR/state.safetensors  the training, every two minutes
    DIR/losses.csv         losses and validation metrics
    DIR/tensorboard/       the same for TensorBoard, if it is installed
    DIR/split.csv          which patients were trained on

    Ctrl-C saves and stops. The same command resumes; on one CPU, with the same
    number of threads, the result is then the same bit for bit. With more --steps the training is
    prolonged, with the learning rate of the longer training.

    Several processes: `torchrun --nproc-per-node 2 -m itk_ncr train IMAGES -o DIR ...`; --batch is
    divided among them.
    """  # noqa: D301
    part = _fold(fold)
    folder = runs.OutputFolder(output, overwrite=True)
    if threads is not None:
        runs.limit_threads(threads)
    from itk_ncr import training

    if runs.holds_files(output) and not (output / training.STATE).is_file():
        raise InputError(
            f"output folder '{output}' holds files, but no training. Give another folder."
        )
    recipe = _changed(
        training.recipe(preset, budget),
        {key: changes[key] for key in CHANGES} | {"seed": seed},
        network={"width": width, "dropout": dropout},
        reduce=reduce,
        ignore_labels=_label_values(ignore_labels),
        lesions=lesions,
        remapped=remapped,
    )
    with training.joined_processes() as (rank, _):
        speaks = rank == 0 and not quiet
        plan = training.make_plan(
            images,
            recipe,
            val=val,
            test=test,
            fold=part,
            lesion_masks=lesion_masks,
            start=start,
        )
        if speaks:
            for title, text in plan.summary():
                click.echo(f"{title:<14} {text}")
        if dry_run:
            return
        # Of several processes the first one writes.
        with runs.sole_run(output) if rank == 0 else contextlib.nullcontext():
            run = plan.training(
                folder.folder, validate_every=validate_every, device=training.device_of(device)
            )
            if rank == 0:
                if not (output / training.STATE).is_file():
                    run.save()  # from now on the folder is known to hold this training
                runs.write_text(output / SPLIT, _split(plan.manifest))
            if run.step and speaks:
                click.echo(f"{'resumed':<14} after step {run.step} of {run.settings.steps}")
            listener = training.tensorboard(output, run.step) if rank == 0 else None
            with Interruption() as interruption, training_progress(speaks) as progress:
                run.run(progress=progress, stop=interruption.asked, listener=listener)
            if run.step < run.settings.steps:
                note(
                    f"stopped after step {run.step} of {run.settings.steps}. "
                    "Give the same command again to resume."
                )
                context.exit(INTERRUPTED)
            if rank == 0:
                stored = plan.save(
                    run,
                    output / MODEL,
                    name=name or output.resolve().name,
                    contrast=contrast,
                    command=_command(context),
                    licence={"data": licence} if licence else None,
                )
                if speaks:
                    click.echo(f"{'model':<14} {click.format_filename(stored.folder)}")


def _changed(
    recipe: Recipe,
    settings: dict[str, Any],
    *,
    network: dict[str, Any],
    reduce: int | None,
    ignore_labels: tuple[int, ...] | None,
    lesions: float | None,
    remapped: float | None,
) -> Recipe:
    """The recipe with the settings of the command line."""
    from dataclasses import replace

    wanted = {name: value for name, value in settings.items() if value is not None}
    variant = wanted.pop("variant", recipe.settings.variant)
    chosen = {name: value for name, value in network.items() if value is not None}
    if variant == "voxelmorph" and chosen:
        name, value = next(iter(chosen.items()))
        raise InputError(
            f"--{name} must be left out with --variant voxelmorph; got {value}. Its layers are "
            "those that were published."
        )
    architecture = wanted.get("architecture", recipe.settings.architecture)
    if architecture == "ncr-pyramid" and chosen.get("dropout"):
        raise InputError(
            f"--dropout must be left out with --architecture ncr-pyramid; got {chosen['dropout']}. "
            "Add --architecture ncr-net, which drops features."
        )
    recipe = recipe.with_variant(variant)
    if chosen:
        wanted["network_settings"] = {**recipe.settings.network_settings, **chosen}
    asked = {"reduce": reduce, "ignore_labels": ignore_labels, "lesions": lesions}
    sampling: dict[str, Any] = {name: v for name, v in asked.items() if v is not None}
    if remapped is not None:
        if recipe.sampling.synthesis is not None:
            raise InputError(
                f"--remapped must be left out with synthetic pairs; got {remapped}. They are of "
                "random contrast as they are."
            )
        sampling["augmentation"] = replace(recipe.sampling.augmentation, remapped=remapped)
    return replace(
        recipe,
        settings=replace(recipe.settings, **wanted),
        sampling=replace(recipe.sampling, **sampling),
    )


def _split(manifest: Manifest) -> str:
    """Patients and their splits as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", "split"])
    splits = {s.patient: s.split for s in manifest.subjects}
    writer.writerows((cell(patient), split) for patient, split in splits.items())
    return text.getvalue()


def _label_values(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    from itk_ncr.data.listings import label_values

    try:
        return label_values(text)
    except ValueError:
        raise InputError(
            f"--ignore-labels must be whole numbers such as 1,46,69; got {text!r}."
        ) from None


def _fold(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InputError(f"--fold must be I/K such as 1/5; got {text!r}. Write two whole numbers.")
    return int(parts[0]), int(parts[1])


def _command(context: click.Context) -> str:
    """The command that reproduces this model, with the names of its paths only."""
    words = ["itk-ncr", "train"]
    silent = {"quiet", "dry_run", "name", "licence", "contrast"}
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        source = context.get_parameter_source(parameter.name or "")
        if source is not click.core.ParameterSource.COMMANDLINE or parameter.name in silent:
            continue
        is_path = isinstance(value, Path) or parameter.name == "start"
        shown = Path(str(value)).name if is_path else str(value)
        if isinstance(parameter, click.Argument):
            words.append(shown)
        else:
            words += [parameter.opts[-1], shown]
    return shlex.join(words)
