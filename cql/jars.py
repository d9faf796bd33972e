"""The pinned Java archives: fetched once, in parallel, and checked against `jars.txt`."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cql.errors import InputError, IntegrityError, SightlineError, UnavailableError
from cql.progress import Progress, silent
from cql.settings import Settings

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LIST = Path(__file__).with_name("jars.txt")
_THREADS = 16
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One archive as pinned: `coordinate` is groupId:artifactId:version[:classifier]."""

    group: str
    coordinate: str
    bytes: int
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the file in `jars_dir`."""
        _, artifact, version, *classifier = self.coordinate.split(":")
        return "-".join((artifact, version, *classifier)) + ".jar"


def pinned(group: str | None = None) -> list[Jar]:
    """All archives of `jars.txt`, or those of one group (`cassandra`, `spark`)."""
    jars = []
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, coordinate, size, sha256 = line.split()
            jars.append(Jar(name, coordinate, int(size), sha256))
    groups = sorted({jar.group for jar in jars})
    if group is not None and group not in groups:
        raise InputError(f"the groups of jars are {', '.join(groups)}, got {group!r}")
    return [jar for jar in jars if group in (None, jar.group)]


def classpath(settings: Settings, group: str) -> str:
    """Java class path of one group. The files must be there: see `fetch`.

    Raises:
        UnavailableError: an archive is missing.
    """
    paths = [settings.jars_dir / jar.filename for jar in pinned(group)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise UnavailableError(
            f"{len(missing)} of {len(paths)} Java archives of {group} are missing in "
            f"{settings.jars_dir} (first: {missing[0]}): fetch them with cql.jars.fetch"
        )
    return ":".join(str(path) for path in paths)


def fetch(settings: Settings, progress: Progress | None = None) -> list[Path]:
    """Make every pinned archive present in `jars_dir`, checked by SHA-256; returns their paths.

    Resumable: what is there with the right size stays, each file appears by an atomic rename.

    Raises:
        UnavailableError: an archive cannot be downloaded.
        IntegrityError: what was downloaded is not what is pinned.
    """
    tell = progress or silent
    folder = settings.jars_dir
    # An archive that two groups need is one file.
    jars = list({jar.filename: jar for jar in pinned()}.values())
    missing = [jar for jar in jars if not _present(folder / jar.filename, jar)]
    total = sum(jar.bytes for jar in missing)
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        # One context for all threads: it holds no state but its settings. Its local cache is a
        # scratch folder, so that neither a damaged nor a foreign ~/.m2 gets into the collection.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            context = _context(Path(scratch))
            with ThreadPoolExecutor(_THREADS) as pool:
                futures = {pool.submit(_download, context, jar, folder): jar for jar in missing}
                done = 0
                tell("jars", 0, total)
                try:
                    for future in as_completed(futures):
                        future.result()
                        done += futures[future].bytes
                        tell("jars", done, total, futures[future].filename)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return [folder / jar.filename for jar in jars]


def main() -> None:
    """Fetch the archives from the command line: `python -m cql.jars`."""
    last = [0]

    def tell(step: str, done: int, total: int, message: str = "") -> None:
        del message
        percent = 100 * done // max(total, 1)
        if percent >= last[0] + 10:
            last[0] = percent
            sys.stderr.write(f"{step}: {done >> 20} of {total >> 20} MiB\n")

    try:
        fetch(Settings.load(), tell)
    except SightlineError as error:
        sys.exit(str(error))


def _context(scratch: Path) -> MavenContext:
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=scratch, timeout=60)


def _present(path: Path, jar: Jar) -> bool:
    return path.exists() and path.stat().st_size == jar.bytes


def _download(context: MavenContext, jar: Jar, folder: Path) -> None:
    """Fetch one archive, check it, and move it into place."""
    group, name, version, *classifier = jar.coordinate.split(":")
    artifact = context.project(group, name).at_version(version).artifact("".join(classifier), "jar")
    reason = ""
    for _ in range(_TRIES):
        cached = context.repo_cache / artifact.component.path_prefix / artifact.filename
        cached.unlink(missing_ok=True)
        try:
            path = context.resolver.download(artifact)
        except (OSError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"
            continue
        if path is None:
            reason = "the repository does not have it"
            continue
        # Threads write different names; two processes replace a file by the same bytes.
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest == jar.sha256:
            shutil.move(path, folder / jar.filename)
            return
        reason = f"sha256 is {digest}"
        if path.stat().st_size == jar.bytes:
            # A cut transfer is worth another try, other bytes of the same length are not.
            break
    if reason.startswith("sha256"):
        raise IntegrityError(f"{jar.coordinate} must have sha256 {jar.sha256}, but its {reason}")
    raise UnavailableError(
        f"{jar.coordinate} cannot be fetched ({reason}): check the network and run this again"
    )


if __name__ == "__main__":
    main()
