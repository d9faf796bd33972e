"""`sightline`: every command, its flags and its help. Heavy imports happen inside the commands."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cql.errors import InputError, SightlineError
from cql.settings import ROOT, Settings
from dashboard.archive import decisions, export
from dashboard.inventory import stock
from dashboard.lookup import search
from dashboard.options import DataDir, Json, Set, emit, load, report

if TYPE_CHECKING:
    from dashboard.pipeline import Step

app = typer.Typer(
    name="sightline",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Explore, search and review image collections that are too large to look at.",
)
train = typer.Typer(no_args_is_help=True, help="Train the project's own models.")
bench = typer.Typer(no_args_is_help=True, help="Measure throughput on this machine.")
app.add_typer(train, name="train")
app.add_typer(bench, name="bench")
app.add_typer(stock, name="stock")
app.add_typer(decisions, name="decisions")

SHARED = ROOT.parent / "shared/data"
"""Where the shared photos and weights lie beside the checkout."""

PHOTOS = "Folder of photos, or an fsspec URL of one (`s3://bucket/folder`)"

Model = Annotated[
    str | None,
    typer.Option(
        help="`sightline-small`, `timm:<name>` or `file:<path>.safetensors:<architecture>`.",
        show_default=False,
    ),
]
Manifest = Annotated[
    str | None, typer.Option(help="CSV or Parquet with listing_id and path columns, path or URL.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback()
def root(debug: Debug = False) -> None:
    """Explore, search and review image collections that are too large to look at."""
    del debug  # main() reads it


@app.command()
def demo(
    *,
    photos: Annotated[
        str | None, typer.Option(help=f"{PHOTOS}; without it, the rendered sample.")
    ] = None,
    manifest: Manifest = None,
    images: Annotated[int, typer.Option(min=1, help="Pictures of the rendered sample.")] = 1600,
    seed: Annotated[int, typer.Option(help="Seed of the rendered sample.")] = 7,
    port: Annotated[int | None, typer.Option(help="Port of the dashboard, 0: any free.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the dashboard in a browser.")] = True,
    model: Model = None,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Start everything: Cassandra, Spark, the collection, its map and the dashboard.

    Ctrl-C stops all of it; a second start finds what is done and serves at once.

    Example: `sightline demo --photos ~/survey --port 8060`
    """
    from dashboard import demo as demos

    folder = demos.folder_of(photos, images=images, seed=seed) if data_dir is None else data_dir
    settings = load(folder, pairs, model=model, port=port)
    demos.run(settings, photos=photos, manifest=manifest, images=images, seed=seed, browser=browser)


@app.command()
def serve(
    *,
    port: Annotated[int | None, typer.Option(help="Port of the dashboard, 0: any free.")] = None,
    engine: Annotated[bool, typer.Option(help="Also run an engine on this machine.")] = True,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Serve the dashboard of a collection that exists; nothing is ingested or analysed.

    Example: `sightline serve --data-dir .sightline/sample --port 8060`
    """
    from dashboard.supervisor import Plan, Supervisor
    from dashboard.terminal import Screen

    with Screen() as screen:
        Supervisor(load(data_dir, pairs, port=port), Plan(engine=engine), screen).run()


@app.command()
def ingest(
    *,
    photos: Annotated[str, typer.Argument(help=f"{PHOTOS}.")],
    manifest: Manifest = None,
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Read photos into the collection; a second run writes nothing new.

    Example: `sightline ingest ~/survey --manifest ~/survey/listings.csv`
    """
    from dashboard import sources

    parameters = sources.ingest_parameters(photos, manifest)
    from dashboard.pipeline import Step

    _work(load(data_dir, pairs), [Step(kind="ingest", parameters=parameters)], json_)


@app.command()
def extract(
    *, model: Model = None, json_: Json = False, data_dir: DataDir = None, pairs: Set = None
) -> None:
    """Compute the feature vectors that are missing, and make the new snapshot searchable.

    Example: `sightline extract --model timm:mobilenetv3_small_100`
    """
    from dashboard.pipeline import Step

    settings = load(data_dir, pairs, model=model)
    parameters = {"model": settings.model}
    steps = [Step(kind=kind, parameters=parameters) for kind in ("extract", "snapshot")]
    _work(settings, steps, json_)


@app.command()
def analyse(
    *,
    model: Model = None,
    seed: Annotated[int, typer.Option(help="Seed of the layout.")] = 1,
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Make the map, the clusters and the outlier scores of everything extracted.

    Example: `sightline analyse --seed 3`
    """
    from dashboard.pipeline import Step

    settings = load(data_dir, pairs, model=model)
    steps = [
        Step(kind="snapshot", parameters={"model": settings.model}),
        Step(kind="analyse", parameters={"model": settings.model, "seed": seed}),
    ]
    _work(settings, steps, json_)


app.command()(search)
app.command()(export)


@app.command()
def status(json_: Json = False, data_dir: DataDir = None, pairs: Set = None) -> None:
    """Show what the collection holds, what runs and whether searching works.

    Exits with 1 when it does not. Example: `sightline status --json`
    """
    from dashboard import commands

    found = commands.status(load(data_dir, pairs))
    report(found, json_, commands.show_status)
    if not found["health"]["ready"]:
        raise typer.Exit(1)


@app.command()
def evaluate(
    *,
    attribute: Annotated[str, typer.Argument(help="Column of the manifest that holds labels.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours that vote.")] = 5,
    model: Model = None,
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Report k-NN accuracy (leave-one-out) and precision@1 of the stored features.

    Example: `sightline evaluate fine`
    """
    from dashboard import commands

    found = commands.evaluate(load(data_dir, pairs, model=model), attribute, k=k)
    report(found, json_, partial(commands.show_table, "quality of the features"))


@app.command()
def delete(
    *,
    image: Annotated[str | None, typer.Option(help="An image id.")] = None,
    listing: Annotated[str | None, typer.Option(help="A listing id.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    later: Annotated[
        bool, typer.Option("--later", help="Leave shards and map to the next `analyse`.")
    ] = False,
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Delete an image or a listing everywhere; the photo files stay where they are.

    Shards and map are made anew without it; with --later they hide it until `sightline analyse`.

    Example: `sightline delete --listing asset-0042 --yes`
    """
    from dashboard import commands

    if (image is None) == (listing is None):
        raise InputError("give one of --image and --listing")
    what = f"image {image}" if image else f"listing {listing}"
    if not yes and not typer.confirm(f"Delete {what} from the collection?", err=True):
        raise typer.Exit(1)
    settings = load(data_dir, pairs)
    steps = commands.delete(settings, image=image, listing=listing)
    jobs = commands.work(settings, steps) if steps and not later else []
    if json_:
        emit({"deleted": "image" if image else "listing", "id": image or listing, "jobs": jobs})
        return
    rest = "; run `sightline analyse` to take it off the map" if steps and later else ""
    typer.echo(f"deleted {what}{rest}")


@app.command()
def settings(json_: Json = False) -> None:
    """List every setting with its variable, default and meaning.

    Example: `SIGHTLINE_PORT=8060 sightline demo`, or `port = 8060` in sightline.toml
    """
    from cql.settings import table

    if json_:
        emit(table())
        return
    from dashboard import commands

    commands.show_settings(table())


@train.command("distil")
def train_distil(
    *,
    teacher: Annotated[
        Path,
        typer.Option(
            help="Weights of the teacher (safetensors).", show_default="../shared/data/weights"
        ),
    ] = SHARED / "weights/mobilenetv2_100_tf2ptq_fp16.safetensors",
    photos: Annotated[
        Path,
        typer.Option(
            help="Grocery photos, with their train.txt.", show_default="../shared/data/grocery"
        ),
    ] = SHARED / "grocery",
    sample: Annotated[
        Path | None,
        typer.Option(
            help="A rendered sample to learn from as well.", show_default="one is rendered"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the weights go to.", show_default="over the committed weights"
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the photos.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the student and its batches.")] = 1,
    json_: Json = False,
) -> None:
    """Distil the small embedded model from the MobileNetV2 teacher.

    Example: `sightline train distil --out weights`
    """
    from dashboard import commands

    found = commands.distil(
        teacher=teacher, photos=photos, sample=sample, out=out, epochs=epochs, seed=seed
    )
    report(found, json_, partial(commands.show_table, "distilled"))


@bench.command("extract")
def bench_extract(
    *,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos; without it, a rendered sample.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Pictures to measure.")] = 400,
    model: Model = None,
    json_: Json = False,
    pairs: Set = None,
) -> None:
    """Measure extraction: images a second, and the shares of decode, model and write.

    Example: `sightline bench extract --images 400 --json`
    """
    from dashboard import commands

    found = commands.bench_extract(load(None, pairs, model=model), photos=photos, images=images)
    report(found, json_, partial(commands.show_table, "extraction"))


def _work(settings: Settings, steps: list[Step], json_: bool) -> None:
    from dashboard import commands

    jobs = commands.work(settings, steps)
    if json_:
        emit(jobs)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; errors are one clear line, and the exit code is never 0 for one."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    command = typer.main.get_command(app)
    # --debug counts wherever it stands.
    rest = [argument for argument in given if argument != "--debug"]
    try:
        code = command.main(args=rest, prog_name="sightline")
    except SightlineError as error:
        if debug:
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        text = str(error).strip().splitlines()
        typer.secho(
            f"error: {type(error).__name__}: {text[0] if text else ''} "
            "(this is a fault of Sightline: run again with --debug and report it)",
            fg="red",
            err=True,
        )
        raise SystemExit(70) from None
    raise SystemExit(code or 0)


if __name__ == "__main__":
    main()
