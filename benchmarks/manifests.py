"""Write manifests of the data folder for training: ixi-2d.csv, ixi-3d.csv, oct.csv.

    python benchmarks/manifests.py DATA OUT

DATA holds the folders ixi_dlmuse, oct_octdl_pairs and ship_samples; see
``itk_ncr_reproduction.sources.write_manifests`` for how patients are divided.
"""

from __future__ import annotations

from pathlib import Path

import click

from itk_ncr_reproduction.sources import write_manifests


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def main(data: Path, out: Path) -> None:
    """Write ixi-2d.csv, ixi-3d.csv and oct.csv for DATA into OUT."""
    write_manifests(data, out)
    for file in sorted(out.glob("*.csv")):
        click.echo(f"{file}: {sum(1 for _ in file.open()) - 1} rows")


if __name__ == "__main__":
    main()
