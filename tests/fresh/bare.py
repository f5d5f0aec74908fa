"""A bare Debian root, made with debootstrap, in which commands run as on a machine that has just been set up.

It has python3, python3-venv, make and ca-certificates, and nothing else: no git, no fonts, no browser, no compiler.
Commands run without a terminal, with ``LANG=C``, without ``HOME``, and with a /dev/shm of 64 MB. Each has its own
mounts and its own process identifiers (``unshare``), which the kernel removes when the command ends, however it ends.
"""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["BareRoot", "Done", "bare_root", "why_not"]

ROOT = Path(__file__).parents[2]
SOURCE = "/src"
NEEDED = ("debootstrap", "apt-get", "unshare", "setpriv", "chroot", "mount", "git")
PACKAGES = ("python3", "python3-venv", "make", "ca-certificates")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
NOBODY = 65534
INSTALL_SECONDS = 900

# The first process of its own namespace: mounts, runs the command, and says which processes that has left behind.
RUN = """
root=$1; shift
mount -t proc proc "$root/proc" && mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm" || exit 125
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$2" && { [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"; } || exit 125
  shift 3
done
shift
"$@" </dev/null
status=$?
for second in 1 2 3 4 5; do
  left=$(grep -l python "$root"/proc/[0-9]*/comm 2>/dev/null) || exit $status
  sleep 1
done
echo "Processes that were left behind:" && cat $(echo "$left" | sed s/comm/cmdline/) | tr '\\0' ' '
exit 124
"""


def why_not() -> str:
    """Return why no root can be made on this machine, or nothing."""
    if os.geteuid() != 0:
        return "a bare root is made as root only"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"a bare root needs {', '.join(missing)}"
    if subprocess.run([*_isolated(), "true"], capture_output=True).returncode:
        return "mounts of its own (unshare) are not allowed here"
    return "" if _mirror() else "apt has no source of this machine's release"


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status, 124 if it was ended, all that it printed, and how long it took."""

    status: int
    output: str
    seconds: float


@dataclass
class BareRoot:
    """The root: its folder, and what of this machine is mounted in it, as (source, target, ``ro`` or ``rw``)."""

    folder: Path
    mounts: list[tuple[str, str, str]] = field(default_factory=list)

    def run(
        self, script: str, *, seconds: float, user: int = 0, read_only: bool = False, env: dict[str, str] | None = None
    ) -> Done:
        """Run a shell script in the source folder, and print what it prints.

        Parameters
        ----------
        script : str
        seconds : float
            After which it is ended.
        user : int, default 0
            Identifier of the user and group.
        read_only : bool, default False
            Whether the source folder is mounted read-only.
        env : dict, optional
            Environment variables besides ``PATH`` and ``LANG``.
        """
        mounts = [*self.mounts, (f"{self.folder}{SOURCE}", SOURCE, "ro")] if read_only else self.mounts
        inside = ["chroot", f"--userspec={user}:{user}", str(self.folder)]
        settings = {"PATH": PATH, "LANG": "C", **_proxies(), **(env or {})}
        command = ["env", "-i", *(f"{key}={value}" for key, value in settings.items())]
        shell = ["/bin/sh", "-c", f"cd {SOURCE} && {script}"]
        arguments = [str(self.folder), *(part for mount in mounts for part in mount), "--", *inside, *command, *shell]
        return _run([*_isolated(), "sh", "-c", RUN, "sh", *arguments], seconds)


@contextmanager
def bare_root(revision: str = "HEAD") -> Iterator[BareRoot]:
    """Make a root that holds a revision of this repository in ``/src``; it is removed at the end.

    Parameters
    ----------
    revision : str, default "HEAD"
        Of this repository, as git knows it.

    Raises
    ------
    RuntimeError
        If there is no such revision, or debootstrap fails.
    """
    git = ["git", "-c", f"safe.directory={ROOT}", "archive", revision]  # root may read a clone of somebody else's
    archive = subprocess.run(git, cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise RuntimeError(f"git has no files of {revision}: {archive.stderr.decode().strip()}")
    mirror = _mirror()
    assert mirror is not None, why_not()
    uri, suite = mirror
    with tempfile.TemporaryDirectory(prefix="fresh-") as place:
        folder = Path(place) / "root"
        make = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(folder), uri]
        done = _run([*_isolated(), *make], INSTALL_SECONDS, show=False)
        if done.status:
            raise RuntimeError(f"debootstrap ended with {done.status}:\n{done.output[-2000:]}")
        (folder / SOURCE[1:]).mkdir()
        subprocess.run(["tar", "-x", "-C", f"{folder}{SOURCE}"], input=archive.stdout, check=True)
        yield BareRoot(folder, _share_pip(folder))


def _isolated() -> list[str]:
    """Return the command that runs another with mounts and process identifiers of its own, and not without this one."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]


def _run(command: Sequence[str], seconds: float, *, show: bool = True) -> Done:
    """Run a command without a terminal for a limited time, and print what it prints."""
    started, lines = time.monotonic(), list[str]()
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **streams, text=True, errors="replace", start_new_session=True) as process:
        ended = threading.Timer(seconds, process.kill)
        ended.start()
        try:
            for line in process.stdout or ():
                lines.append(line)
                if show:
                    print(line, end="", flush=True)
            status = process.wait()
        finally:
            ended.cancel()
            process.kill()
    passed = time.monotonic() - started
    return Done(124 if status < 0 else status, "".join(lines), passed)


def _mirror() -> tuple[str, str] | None:
    """Return the address and the name of the release that this machine's apt takes packages from."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    form = "$(SITE) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        site, *words = line.split()
        if words == [suite, "main"]:
            return site, suite
    return None


def _proxies() -> dict[str, str]:
    return {name: os.environ[name] for name in (*PROXIES, *map(str.upper, PROXIES)) if name in os.environ}


def _share_pip(root: Path) -> list[tuple[str, str, str]]:
    """Let pip in the root find what pip of this machine finds; return what must be mounted for it."""
    settings, mounts = _pip_settings(), list[tuple[str, str, str]]()
    for value in settings.values():
        for word in value.split():
            path = Path(unquote(urlsplit(word).path) if word.startswith("file:") else word)
            path = path.parent if path.name == "simple" else path  # an index refers to files beside it
            if path.is_absolute() and path.exists():
                mounts.append((str(path), str(path), "ro"))
    cache = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True).stdout.strip()
    if cache and Path(cache).is_dir():
        settings["cache-dir"] = "/var/cache/pip"
        mounts.append((cache, settings["cache-dir"], "rw"))
    for source, target, _ in mounts:
        _make_place(Path(source), Path(f"{root}{target}"))
    parser = configparser.RawConfigParser()
    parser["global"] = settings
    with (root / "etc" / "pip.conf").open("w", encoding="utf-8") as file:
        parser.write(file)
    return list(dict.fromkeys(mounts))


def _pip_settings() -> dict[str, str]:
    """Return the settings of this machine's pip, from its files and its environment."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):  # the environment wins
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:"):
            settings[key] = str(ast.literal_eval(value))
    return settings


def _make_place(source: Path, target: Path) -> None:
    """Make an empty file or folder on which another is mounted."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
